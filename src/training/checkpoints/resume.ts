/**
 * @file Whether a run may go on from a checkpoint: with the same dataset, and with the options that it was trained with.
 * An option that is not listed here decides the numbers, and must stay as it was.
 */

import { ConfigError } from '../../base/errors.js';
import { flagOf } from '../../options/options.js';
import { type ResolvedTrainOptions, trainOptionsSchema } from '../../options/train-options.js';
import type { TrainingState } from './checkpoint.js';

type Key = keyof ResolvedTrainOptions;

/** Where things are, how far the run goes and how it reports: none of these changes a step. */
const freeOptions: ReadonlySet<Key> = new Set<Key>([
  'outputDir',
  'saveSteps',
  'checkpointsTotalLimit',
  'maxNanSteps',
  'resume',
  // A resumed run has weights of its own.
  'pretrainedIpAdapterPath',
  'numTrainEpochs',
  'maxTrainSteps',
  'dataloaderNumWorkers',
  // The same sums in another order: the last bits of the gradients alone.
  'gradientCheckpointing',
  'cudaGraphs',
  'cacheDir',
  'threads',
  'reportTo',
  'loggingDir',
  'validationImage',
  'validationPrompt',
  'validationSteps',
  'validationScale',
  'validationGuidanceScale',
  'validationSamplingSteps',
  'numValidationImages',
  // The rows themselves are compared.
  'dataset',
  'dataJsonFile',
  'dataRootPath',
]);

/** Change the numbers, and are changed for good reasons: a message tells of it. */
const changeableOptions: ReadonlySet<Key> = new Set<Key>([
  'learningRate',
  'imageProjLearningRate',
  'ipAdapterLearningRate',
  'scaleLr',
  'weightDecay',
  // Cached image features are rounded to half precision.
  'cache',
  // A folder may have moved.
  'pretrainedModelNameOrPath',
  'imageEncoderPath',
]);

export interface ResumeContext {
  /** Of the checkpoint. */
  path: string;
  /** Is told of each change that is allowed. */
  onMessage?: ((message: string) => void) | undefined;
}

/** @throws ConfigError that names all that must not change, as it was and as it is */
export function assertSameRun(
  { options: before, dataset: rowsBefore }: Pick<TrainingState, 'options' | 'dataset'>,
  { options: now, dataset }: Pick<TrainingState, 'options' | 'dataset'>,
  { path, onMessage }: ResumeContext,
): void {
  const faults: string[] = [];
  for (const key of Object.keys(trainOptionsSchema.shape) as Key[]) {
    if (freeOptions.has(key)) continue;
    // An option that the checkpoint's version did not have yet was what its default is.
    const was = key in before ? before[key] : trainOptionsSchema.shape[key].safeParse(undefined).data;
    if (shown(was) === shown(now[key])) continue;
    const difference = `${flagOf(key)} is ${shown(now[key])} but ${path} was trained with ${shown(was)}`;
    if (changeableOptions.has(key)) onMessage?.(`${difference}; going on with ${shown(now[key])}`);
    else faults.push(`${difference}; give the same to resume`);
  }
  if (dataset.fingerprint !== rowsBefore.fingerprint) {
    const change =
      dataset.rows === rowsBefore.rows
        ? `it still has ${dataset.rows} rows, but their names, captions or order have changed`
        : `it had ${rowsBefore.rows} rows and has ${dataset.rows}`;
    faults.push(
      `The dataset is not the one that ${path} was trained on: ${change}; give the same to resume, or start afresh from its adapter with --pretrained-ip-adapter-path`,
    );
  }
  if (faults.length > 0) throw new ConfigError(faults.join('\n'));
}

function shown(value: unknown): string {
  if (value === undefined) return 'none';
  if (Array.isArray(value)) return value.join(',');
  return typeof value === 'string' ? value : JSON.stringify(value);
}
