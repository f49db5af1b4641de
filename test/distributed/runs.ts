/** @file Runs of `ip-adapter train` in several processes, and what they leave. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { RunEvent, StepEvent } from '../../src/base/run-context.js';
import { readSafetensors } from '../../src/formats/index.js';
import { type Ended, ipAdapter, runProgram } from '../e2e/command.js';
import { flagsOf, type World } from '../e2e/world.js';

type Watch = Parameters<typeof runProgram>[2]['onError'];

/** Returns the words of a training whose steps take `rows` rows, shared by the processes. */
export function trainWords(
  world: World,
  outputDir: string,
  { processes = 1, rows = 12, ...changes }: { processes?: number; rows?: number } & Record<string, unknown>,
): string[] {
  const flags = flagsOf(world, {
    output_dir: join(world.root, outputDir),
    train_batch_size: String(rows / processes),
    ...(processes === 1 ? {} : { num_processes: String(processes) }),
    learning_rate: '1e-3',
    report_to: 'none',
    ...(Object.fromEntries(
      Object.entries(changes).map(([key, value]) => [key, value === undefined ? undefined : String(value)]),
    ) as Record<string, string>),
  });
  return ['train', ...flags];
}

/** Runs the built command to its end. */
export function run(words: readonly string[], onError?: Watch, env: NodeJS.ProcessEnv = {}): Promise<Ended> {
  return runProgram(process.execPath, [ipAdapter, ...words], {
    cwd: process.cwd(),
    env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
    onError,
  });
}

/** Returns the events of a run, from its metrics.jsonl. */
export function eventsOf(world: World, outputDir: string): RunEvent[] {
  const text = readFileSync(join(world.root, outputDir, 'metrics.jsonl'), 'utf8').trimEnd();
  return text.split('\n').map((line) => JSON.parse(line) as RunEvent);
}

export function stepsOf(world: World, outputDir: string): StepEvent[] {
  return eventsOf(world, outputDir).filter((event) => event.type === 'step');
}

export function lossesOf(world: World, outputDir: string): number[] {
  return stepsOf(world, outputDir).map(({ loss }) => loss);
}

export function bytesOf(
  world: World,
  outputDir: string,
  step: number,
  file = 'optimizer.safetensors',
): Buffer {
  return readFileSync(join(world.root, outputDir, `checkpoint-${step}`, file));
}

/** Returns the largest difference of two lists. */
export function largestDifference(one: readonly number[], other: readonly number[]): number {
  if (one.length !== other.length) return Number.POSITIVE_INFINITY;
  return one.reduce((most, value, i) => Math.max(most, Math.abs(value - (other[i] as number))), 0);
}

/** Returns ‖one − other‖ / ‖one − start‖ of the adapters of three checkpoints, or of another file of them. */
export function shareOfMovement(
  one: string,
  other: string,
  start: string,
  file = 'ip_adapter.safetensors',
): number {
  const weights = [one, other, start].map((folder) => readSafetensors(join(folder, file)).tensors);
  const [a, b, c] = weights.map((tensors) =>
    [...tensors.values()].flatMap((tensor) => tensor.toNumbers()),
  ) as [number[], number[], number[]];
  const norm = (x: number[], y: number[]) =>
    Math.sqrt(x.reduce((sum, value, i) => sum + (value - (y[i] as number)) ** 2, 0));
  return norm(a, b) / norm(a, c);
}
