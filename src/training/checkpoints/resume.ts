/**
 * @file Checks that a run may resume from a checkpoint: it must have the same dataset, and the same options. Options that are
 * not listed here affect the numbers and must not change.
 */

import { ConfigError } from '../../base/errors.js';
import { resolveAliases } from '../../options/aliases.js';
import { flagOf } from '../../options/options.js';
import { type ResolvedTrainOptions, trainOptionsSchema } from '../../options/train-options.js';
import type { TrainingState } from './checkpoint.js';

type Key = keyof ResolvedTrainOptions;

/** Options that do not change a step: paths, the length of the run, reports. */
const freeOptions: ReadonlySet<Key> = new Set<Key>([
  'outputDir',
  'saveSteps',
  'checkpointsTotalLimit',
  'checkpointContent',
  'maxNanSteps',
  'resume',
  // A resumed run has the weights of its checkpoint.
  'adapter',
  'epochs',
  'maxSteps',
  'dataloaderNumWorkers',
  // The same sums in another order: only the last bits of the gradients change.
  'gradientCheckpointing',
  'cudaGraphs',
  'cacheDir',
  'threads',
  'reportTo',
  'loggingDir',
  'validationImages',
  'validationPrompts',
  'validationSteps',
  'validationScales',
  'validationDataset',
  'validationScores',
  'metricEncoder',
  'metricTextEncoder',
  'dinoEncoder',
  'keepBest',
  'validationGuidanceScale',
  'validationSamplingSteps',
  'numValidationImages',
  'requests',
  // The rows themselves are compared.
  'dataset',
  'datasetRoot',
]);

/** Options whose product with the number of processes is the rows of a step. */
const rowOptions: ReadonlySet<Key> = new Set<Key>(['batchSize', 'gradientAccumulationSteps']);

/** Options that default to the values of the checkpoint. */
const inheritedOptions: ReadonlySet<Key> = new Set<Key>(['kind', 'numTokens', 'openShards']);

/** Options that affect the numbers but may be changed for good reasons: the change is reported. */
const changeableOptions: ReadonlySet<Key> = new Set<Key>([
  'learningRate',
  'imageProjLearningRate',
  'ipAdapterLearningRate',
  'scaleLr',
  'weightDecay',
  'reduceDtype',
  // Cached image features are rounded to half precision.
  'cache',
  // A folder may have moved.
  'model',
  'imageEncoder',
]);

/**
 * Returns how many shards the run of a checkpoint read at a time; undefined without a checkpoint. Versions without this
 * option shuffled all rows.
 */
export function savedOpenShards(state: Pick<TrainingState, 'options'> | undefined): number | undefined {
  return state && ((state.options.openShards as number | undefined) ?? 0);
}

export interface ResumeContext {
  /** The folder of the checkpoint. */
  path: string;
  /** Receives a message for each allowed change. */
  onMessage?: ((message: string) => void) | undefined;
}

type RunIdentity = Pick<TrainingState, 'options' | 'dataset' | 'worldSize'>;

/** Checks that dataset and options are those of a checkpoint. @throws ConfigError with each difference, old and new */
export function assertSameRun(
  { options: savedOptions, dataset: savedDataset, worldSize: savedWorldSize = 1 }: RunIdentity,
  { options, dataset, worldSize = 1 }: RunIdentity,
  { path, onMessage }: ResumeContext,
): void {
  // A state that was saved by an older version has the option names of that version.
  const saved: Record<string, unknown> = {
    openShards: savedOpenShards({ options: savedOptions }),
    ...resolveAliases(trainOptionsSchema, savedOptions),
  };
  const faults: string[] = [];
  const [rows, savedRows] = [rowsPerStep(options, worldSize), rowsPerStep(saved, savedWorldSize)];
  if (rows !== savedRows && worldSize + savedWorldSize > 2)
    faults.push(
      `A step takes ${rows} rows (--batch-size × --gradient-accumulation-steps × processes) but ${path} was trained with ${savedRows}; use as many to resume`,
    );
  for (const key of Object.keys(trainOptionsSchema.shape) as Key[]) {
    if (freeOptions.has(key)) continue;
    // With another number of processes, the same rows are shared out otherwise.
    if (rowOptions.has(key) && worldSize !== savedWorldSize) continue;
    if (inheritedOptions.has(key) && options[key] === undefined) continue;
    // An option that the version of the checkpoint did not have had its default.
    const was = Object.hasOwn(saved, key)
      ? saved[key]
      : trainOptionsSchema.shape[key].safeParse(undefined).data;
    if (shown(was) === shown(options[key])) continue;
    const difference = `${flagOf(key)} is ${shown(options[key])} but ${path} was trained with ${shown(was)}`;
    if (changeableOptions.has(key)) onMessage?.(`${difference}; continuing with ${shown(options[key])}`);
    else faults.push(`${difference}; use the same value to resume`);
  }
  if (dataset.fingerprint !== savedDataset.fingerprint) {
    const change =
      dataset.rows === savedDataset.rows
        ? `it still has ${dataset.rows} rows, but their names, captions or order have changed`
        : `it had ${savedDataset.rows} rows and has ${dataset.rows}`;
    faults.push(
      `The dataset is not the one that ${path} was trained on: ${change}; use the same dataset to resume, or start a new run from its adapter with --adapter`,
    );
  }
  if (faults.length > 0) throw new ConfigError(faults.join('\n'));
}

function rowsPerStep(
  { batchSize, gradientAccumulationSteps: accumulated = 1 }: Record<string, unknown>,
  worldSize: number,
): number {
  return Number(batchSize) * Number(accumulated) * worldSize;
}

function shown(value: unknown): string {
  if (value === undefined) return 'none';
  if (Array.isArray(value)) return value.join(',');
  return typeof value === 'string' ? value : JSON.stringify(value);
}
