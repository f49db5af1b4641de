/**
 * @file Whether a run may go on from a checkpoint: with the same dataset, and with the options that it was trained with.
 * An option that is not listed here decides the numbers, and must stay as it was.
 */

import { ConfigError } from '../../base/errors.js';
import { resolveAliases } from '../../options/aliases.js';
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
  'adapter',
  'epochs',
  'maxSteps',
  'dataloaderNumWorkers',
  // The same sums in another order: the last bits of the gradients alone.
  'gradientCheckpointing',
  'cudaGraphs',
  'cacheDir',
  'threads',
  'reportTo',
  'loggingDir',
  'validationImages',
  'validationPrompts',
  'validationSteps',
  'validationScale',
  'validationGuidanceScale',
  'validationSamplingSteps',
  'numValidationImages',
  // The rows themselves are compared.
  'dataset',
  'datasetRoot',
]);

/** Where they are not given, a resumed run has what its adapter has. */
const adapterOptions: ReadonlySet<Key> = new Set<Key>(['kind', 'numTokens']);

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
  'model',
  'imageEncoder',
]);

export interface ResumeContext {
  /** Of the checkpoint. */
  path: string;
  /** Is told of each change that is allowed. */
  onMessage?: ((message: string) => void) | undefined;
}

/** @throws ConfigError that names all that must not change, as it was and as it is */
export function assertSameRun(
  { options: savedOptions, dataset: savedDataset }: Pick<TrainingState, 'options' | 'dataset'>,
  { options, dataset }: Pick<TrainingState, 'options' | 'dataset'>,
  { path, onMessage }: ResumeContext,
): void {
  // A state that an older version saved has that version's names.
  const saved = resolveAliases(trainOptionsSchema, savedOptions);
  const faults: string[] = [];
  for (const key of Object.keys(trainOptionsSchema.shape) as Key[]) {
    if (freeOptions.has(key)) continue;
    if (adapterOptions.has(key) && options[key] === undefined) continue;
    // An option that the checkpoint's version did not have yet was what its default is.
    const was = Object.hasOwn(saved, key)
      ? saved[key]
      : trainOptionsSchema.shape[key].safeParse(undefined).data;
    if (shown(was) === shown(options[key])) continue;
    const difference = `${flagOf(key)} is ${shown(options[key])} but ${path} was trained with ${shown(was)}`;
    if (changeableOptions.has(key)) onMessage?.(`${difference}; going on with ${shown(options[key])}`);
    else faults.push(`${difference}; give the same to resume`);
  }
  if (dataset.fingerprint !== savedDataset.fingerprint) {
    const change =
      dataset.rows === savedDataset.rows
        ? `it still has ${dataset.rows} rows, but their names, captions or order have changed`
        : `it had ${savedDataset.rows} rows and has ${dataset.rows}`;
    faults.push(
      `The dataset is not the one that ${path} was trained on: ${change}; give the same to resume, or start afresh from its adapter with --adapter`,
    );
  }
  if (faults.length > 0) throw new ConfigError(faults.join('\n'));
}

function shown(value: unknown): string {
  if (value === undefined) return 'none';
  if (Array.isArray(value)) return value.join(',');
  return typeof value === 'string' ? value : JSON.stringify(value);
}
