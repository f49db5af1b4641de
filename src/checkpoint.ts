/**
 * @file Checkpoints: all that training needs to go on to the bit. A checkpoint is a folder `checkpoint-N` that is
 * complete or absent: it is written under another name, synced, then renamed.
 *
 *     checkpoint-N/ip_adapter.safetensors   the adapter, official keys: what ComfyUI and diffusers load
 *     checkpoint-N/ip_adapter_ema.safetensors   its moving average, with --use-ema; the same keys
 *     checkpoint-N/optimizer.safetensors    AdamW's moments and the noise generator's state
 *     checkpoint-N/training_state.json      step, place in the data, options
 */
import {
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { CheckpointError, ConfigError } from './errors.js';
import { resolveModelPath } from './hub/cache.js';
import { readSafetensors, type Tensor, tensor, writeSafetensors } from './torch/index.js';

const stateSchema = z.strictObject({
  /** Steps done, of all that the run is to have. */
  step: z.int().min(0),
  totalSteps: z.int().min(1),
  /** Steps whose update was done; fewer than `step` where float16 overflowed. */
  updates: z.int().min(0),
  /** Of float16 only. */
  gradScaler: z.strictObject({ scale: z.number(), goodSteps: z.int().min(0) }).optional(),
  /** Where the next batch starts: the epoch, and the position in its shuffled order. */
  epoch: z.int().min(0),
  position: z.int().min(0),
  /** SHA-256 of the dataset's rows. */
  dataset: z.string(),
  /** The resolved options of the run. */
  options: z.record(z.string(), z.unknown()),
});

export type TrainingState = z.infer<typeof stateSchema>;

export interface Checkpoint {
  state: TrainingState;
  /** Official keys: `image_proj.*`, `ip_adapter.N.to_k_ip.weight`, … */
  adapter: ReadonlyMap<string, Tensor>;
  /** Its moving average, the same keys, where the run keeps one. */
  ema: ReadonlyMap<string, Tensor> | undefined;
  optimizer: ReadonlyMap<string, Tensor>;
  /** State of the generator of noise and timesteps. */
  generator: Uint8Array;
}

export const adapterFile = 'ip_adapter.safetensors';
export const emaFile = 'ip_adapter_ema.safetensors';
const optimizerFile = 'optimizer.safetensors';
const stateFile = 'training_state.json';
const generatorKey = 'generator';

/** The file of an adapter that a user names: a checkpoint's, or itself. @throws CheckpointError as resolveModelPath */
export function adapterFileOf(nameOrPath: string): string {
  const path = resolveModelPath(nameOrPath);
  return statSync(path).isDirectory() ? join(path, adapterFile) : path;
}

/** Writes `outputDir/checkpoint-N` and returns its path. One of the same name is replaced. */
export function saveCheckpoint(
  outputDir: string,
  { state, adapter, ema, optimizer, generator }: Checkpoint,
): string {
  const path = join(outputDir, `checkpoint-${state.step}`);
  const partial = join(outputDir, `.checkpoint-${state.step}.partial`);
  mkdirSync(outputDir, { recursive: true });
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial);
  const generatorState = tensor(generator, [generator.length]);
  try {
    // Loaders of PyTorch files look for this mark.
    writeSafetensors(join(partial, adapterFile), adapter, { format: 'pt' });
    if (ema !== undefined) writeSafetensors(join(partial, emaFile), ema, { format: 'pt' });
    writeSafetensors(join(partial, optimizerFile), new Map([...optimizer, [generatorKey, generatorState]]));
    writeFileSync(join(partial, stateFile), `${JSON.stringify(state, null, 2)}\n`, { flush: true });
    syncFolder(partial);
  } catch (error) {
    rmSync(partial, { recursive: true, force: true });
    throw error;
  } finally {
    generatorState.dispose();
  }
  rmSync(path, { recursive: true, force: true });
  renameSync(partial, path);
  syncFolder(outputDir);
  return path;
}

// A rename is lasting only when the folder that holds the name is.
function syncFolder(path: string): void {
  const folder = openSync(path, 'r');
  try {
    fsyncSync(folder);
  } finally {
    closeSync(folder);
  }
}

/**
 * All but the adapter and its moving average, which are read like any adapter file.
 * @throws CheckpointError where a file is missing, damaged or of another kind.
 */
export function loadCheckpoint(path: string): Omit<Checkpoint, 'adapter' | 'ema'> {
  if (!existsSync(join(path, stateFile)))
    throw new CheckpointError(`Expected a checkpoint folder at ${path} but there is no ${stateFile} in it`);
  let state: TrainingState;
  try {
    state = stateSchema.parse(JSON.parse(readFileSync(join(path, stateFile), 'utf8')));
  } catch (cause) {
    throw new CheckpointError(`${join(path, stateFile)} is damaged: ${(cause as Error).message}`, { cause });
  }
  const optimizer = readSafetensors(join(path, optimizerFile)).tensors;
  const generator = optimizer.get(generatorKey);
  if (generator === undefined)
    throw new CheckpointError(`${join(path, optimizerFile)} has no '${generatorKey}'`);
  optimizer.delete(generatorKey);
  return { state, optimizer, generator: generator.toBytes() };
}

/** The checkpoints of an output folder, oldest first; none where the folder is not there. */
function listCheckpoints(outputDir: string): string[] {
  if (!existsSync(outputDir)) return [];
  return readdirSync(outputDir)
    .filter((name) => /^checkpoint-\d+$/.test(name))
    .sort((a, b) => stepOf(a) - stepOf(b))
    .map((name) => join(outputDir, name));
}

function stepOf(path: string): number {
  return Number(basename(path).slice('checkpoint-'.length));
}

/**
 * The checkpoint that `resume` means, or undefined for a fresh start.
 * @param resume a path; true for the newest of the output folder; undefined for none
 * @throws ConfigError where there is none to resume, or where a fresh start would mix with an older run's checkpoints.
 */
export function findCheckpoint(outputDir: string, resume: string | true | undefined): string | undefined {
  const newest = listCheckpoints(outputDir).at(-1);
  if (resume === true && newest === undefined)
    throw new ConfigError(
      `Expected a checkpoint to resume in ${outputDir} but there is none; leave --resume out to start afresh`,
    );
  if (resume === undefined && newest !== undefined)
    throw new ConfigError(
      `${outputDir} holds the checkpoints of another run, up to ${basename(newest)}; give --resume to go on from there, or another --output-dir`,
    );
  return resume === true ? newest : resume;
}
