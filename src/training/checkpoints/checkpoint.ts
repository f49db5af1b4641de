/**
 * @file Checkpoints contain everything that training needs to resume bit-exactly. A checkpoint is a folder `checkpoint-N`
 * that is complete or absent (see folder.ts). Its checksums are verified before it is used.
 *
 *     checkpoint-N/ip_adapter.safetensors   the adapter, official keys: what ComfyUI and diffusers load
 *     checkpoint-N/ip_adapter_ema.safetensors   its moving average, with --use-ema; the same keys
 *     checkpoint-N/optimizer.safetensors    AdamW's moments and the noise generator's state
 *     checkpoint-N/training_state.json      step, place in the data, options
 *     checkpoint-N/SHA256SUMS               of the files above
 *
 * With --checkpoint-content adapter, older checkpoints have no optimizer.safetensors.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { writeAdapter } from '../../adapters/adapter-file.js';
import { adapterMetadata, type TrainedWith } from '../../adapters/adapter-metadata.js';
import { adapterFile, listCheckpoints } from '../../adapters/adapter-path.js';
import { hasChecksum, removeWithChecksum, verifyChecksums, writeChecksums } from '../../base/checksums.js';
import { CheckpointError, ConfigError } from '../../base/errors.js';
import { regularFile } from '../../base/regular-file.js';
import { readSafetensors, safetensorsSize, writeSafetensors } from '../../formats/index.js';
import { bestMeasures } from '../../options/train-options.js';
import { type Tensor, tensor } from '../../torch/index.js';
import { checkpointPath, olderThan, writeFolder } from './folder.js';

const stateSchema = z.strictObject({
  /** The number of steps done. */
  step: z.int().min(0),
  /** The number of steps of the whole run. */
  totalSteps: z.int().min(1),
  /** The number of optimizer updates, which is smaller than `step` if float16 gradients overflowed in some steps. */
  updates: z.int().min(0),
  /** The state of the gradient scaler, for float16 only. */
  gradScaler: z.strictObject({ scale: z.number(), goodSteps: z.int().min(0) }).optional(),
  /** The epoch of the next batch, and its position in the shuffled order of the epoch. */
  epoch: z.int().min(0),
  position: z.int().min(0),
  /** The dataset: the number of its rows, and a hash of their names and captions in their order. */
  dataset: z.strictObject({ rows: z.int().min(1), fingerprint: z.string() }),
  /** The number of processes, each with `batchSize` rows; missing where it is 1. */
  worldSize: z.int().min(2).optional(),
  /** The type of the image encoder; missing in a checkpoint of an older version. */
  imageEncoder: z.string().optional(),
  /** The version of the table that chose the kernels of attention; missing in a checkpoint of an older version, whose was 1. */
  attentionTable: z.union([z.literal(1), z.literal(2), z.literal(3)]).optional(),
  /** The same of convolutions. */
  convolutionTable: z.union([z.literal(1), z.literal(2), z.literal(3)]).optional(),
  /** The checkpoint that is the best so far, with --keep-best: its measure, its step and its value. */
  best: z.strictObject({ by: z.enum(bestMeasures), step: z.int().min(1), value: z.number() }).optional(),
  /** The resolved options of the run. */
  options: z.record(z.string(), z.unknown()),
});

export type TrainingState = z.infer<typeof stateSchema>;

export interface Checkpoint {
  state: TrainingState;
  /** Official keys: `image_proj.*`, `ip_adapter.N.to_k_ip.weight`, … */
  adapter: ReadonlyMap<string, Tensor>;
  /** The moving average of the adapter, with the same keys; undefined without `--use-ema`. */
  ema: ReadonlyMap<string, Tensor> | undefined;
  optimizer: ReadonlyMap<string, Tensor>;
  /** The state of the generator of noise and timesteps. */
  generator: Uint8Array;
}

export const emaFile = 'ip_adapter_ema.safetensors';
const optimizerFile = 'optimizer.safetensors';
const stateFile = 'training_state.json';
const generatorKey = 'generator';

/** Writes `outputDir/checkpoint-N` and returns its path. An existing checkpoint of that name is replaced. */
export function saveCheckpoint(
  outputDir: string,
  { state, adapter, ema, optimizer, generator }: Checkpoint,
): string {
  const path = checkpointPath(outputDir, state.step);
  const trained = trainedWithOf(state);
  const generatorState = tensor(generator, [generator.length]);
  try {
    writeFolder(path, (folder) => {
      writeAdapter(join(folder, adapterFile), adapter, trained);
      if (ema !== undefined) writeAdapter(join(folder, emaFile), ema, trained);
      writeSafetensors(join(folder, optimizerFile), new Map([...optimizer, [generatorKey, generatorState]]));
      writeFileSync(join(folder, stateFile), `${JSON.stringify(state, null, 2)}\n`, { flush: true });
      writeChecksums(folder);
    });
  } finally {
    generatorState.dispose();
  }
  return path;
}

/** Returns what a run trains with, as far as the state of an older version says it. */
function trainedWithOf({ options, imageEncoder }: TrainingState): TrainedWith {
  return { clipSkip: typeof options.clipSkip === 'number' ? options.clipSkip : undefined, imageEncoder };
}

/** Removes the optimizer's state from the checkpoints before `newest`, which are not resumed from then. */
export function keepOnlyAdapters(newest: string): void {
  for (const path of olderThan(newest))
    if (existsSync(join(path, optimizerFile))) removeWithChecksum(path, optimizerFile);
}

/** Sizes in bytes, without checksums. */
export interface CheckpointSizes {
  /** Of a whole checkpoint. */
  whole: number;
  /** Of one without the optimizer's state. */
  adapter: number;
}

/** Returns the sizes of the checkpoint that `saveCheckpoint` would write. */
export function checkpointSizes({ state, adapter, ema, optimizer, generator }: Checkpoint): CheckpointSizes {
  const sizeOf = (tensors: ReadonlyMap<string, Tensor>): number =>
    safetensorsSize(tensors, adapterMetadata(tensors, trainedWithOf(state)));
  const averages = ema === undefined ? 0 : sizeOf(ema);
  const withoutOptimizer = sizeOf(adapter) + averages + JSON.stringify(state, null, 2).length;
  return {
    whole: withoutOptimizer + safetensorsSize(optimizer) + generator.length,
    adapter: withoutOptimizer,
  };
}

/**
 * Loads a checkpoint without the adapter and its moving average, which are read like other adapter files.
 * @throws CheckpointError if a file is missing or has other content
 */
export function loadCheckpoint(path: string): Omit<Checkpoint, 'adapter' | 'ema'> {
  const state = readTrainingState(path);
  const optimizer = readSafetensors(join(path, optimizerFile)).tensors;
  const generator = optimizer.get(generatorKey);
  if (generator === undefined)
    throw new CheckpointError(`${join(path, optimizerFile)} has no '${generatorKey}'`);
  optimizer.delete(generatorKey);
  const generatorState = generator.toBytes();
  generator.dispose();
  return { state, optimizer, generator: generatorState };
}

/** Reads what a checkpoint says of its run. @throws CheckpointError where it is missing or of another version */
export function readTrainingState(path: string): TrainingState {
  try {
    return stateSchema.parse(JSON.parse(readFileSync(regularFile(join(path, stateFile)), 'utf8')));
  } catch (cause) {
    throw new CheckpointError(
      `${join(path, stateFile)} is not of this version of ip-adapter: ${(cause as Error).message}`,
      { cause },
    );
  }
}

/**
 * Returns the path of the checkpoint to resume, with verified checksums; undefined to start a new run.
 * @param resume a path; true or 'latest' for the newest in the output folder; 'auto' for that, or for a new run if there is
 * none; undefined for a new run
 * @throws ConfigError if there is none to resume, or if the checkpoints of a new run would mix with older ones
 * @throws CheckpointError if a file of it is missing or damaged, with the newest checkpoint that is complete
 */
export function findCheckpoint(outputDir: string, resume: string | true | undefined): string | undefined {
  const all = listCheckpoints(outputDir);
  const newest = all.at(-1);
  const wantsNewest = resume === true || resume === 'latest' || resume === 'auto';
  if (newest === undefined && wantsNewest && resume !== 'auto')
    throw new ConfigError(
      `Expected a checkpoint to resume in ${outputDir} but there is none; leave --resume out to start a new run, or use --resume auto, which starts a new run only if there is none`,
    );
  if (resume === undefined && newest !== undefined)
    throw new ConfigError(
      `${outputDir} holds the checkpoints of another run, up to ${basename(newest)}; give --resume to continue that run, or another --output-dir`,
    );
  const path = wantsNewest ? newest : resume;
  if (path === undefined) return undefined;
  const fault = faultOf(path);
  if (fault === undefined) return path;
  const good = all.reverse().find((other) => other !== path && faultOf(other) === undefined);
  const remedy =
    good === undefined
      ? 'no other checkpoint is complete; start a new run in another --output-dir'
      : `the newest complete checkpoint is ${basename(good)}: resume with --resume ${good}`;
  throw new CheckpointError(`${fault.message}; ${remedy}`, { cause: fault });
}

/** @throws CheckpointError that names the file which is missing or damaged */
export function verifyCheckpoint(path: string): void {
  if (!existsSync(path))
    throw new CheckpointError(`Expected a checkpoint folder at ${path} but there is none`);
  if (!existsSync(join(path, optimizerFile)) && !hasChecksum(path, optimizerFile))
    throw new CheckpointError(
      `${path} cannot be resumed: it has only its adapter, as --checkpoint-content adapter keeps of older checkpoints. To train on from its weights, start a new run with --adapter ${path}`,
    );
  verifyChecksums(path, [adapterFile, optimizerFile, stateFile]);
}

function faultOf(path: string): CheckpointError | undefined {
  try {
    verifyCheckpoint(path);
    return undefined;
  } catch (error) {
    if (error instanceof CheckpointError) return error;
    throw error;
  }
}
