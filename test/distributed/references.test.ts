/**
 * @file Groups, masks, varied references, several datasets, and held-out rows in several processes: the losses, gains and scores of
 * one process, and resumes that are bit-exact, also with another number of processes.
 */
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { makeWorld, type World } from '../e2e/world.js';
import { maskedRows } from '../masked-rows.js';
import { bytesOf, eventsOf, largestDifference, lossesOf, run, shareOfMovement, trainWords } from './runs.js';

vi.setConfig({ testTimeout: 400_000, hookTimeout: 180_000 });

let world: World;
const at = (...parts: string[]): string => join(world.root, ...parts);

/** Shapes with masks of very different sizes; every third row has none. Two datasets, the first of which has groups. */
beforeAll(async () => {
  world = await makeWorld(15);
  const masked = await maskedRows(world, 4);
  writeFileSync(at('a.json'), JSON.stringify(masked.slice(0, 11)));
  writeFileSync(at('b.json'), JSON.stringify(masked.slice(11)));
});
afterAll(() => world.remove());

const more = () => [
  ...['--dataset', at('a.json'), at('b.json'), '--group-by', 'group', 'none', '--dataset-repeats', '1', '2'],
  ...[
    '--references-per-row',
    '2',
    '--drop-image',
    '0.3',
    '0.1',
    '--caption-prefix',
    '',
    'photo',
    '--random-flip',
  ],
  ...['--masked-loss', '--reference-mask-crop', '--reference-background', '#808080'],
  ...['--reference-flip', '0.5', '--reference-crop', '0.5', '--reference-rotation', '20'],
  ...['--reference-color-jitter', '0.3', '0.3', '0.3', '0.1'],
];

async function trained(name: string, steps: number, processes: number, changes = {}): Promise<void> {
  const settings = {
    ...{ rows: 4, processes, max_train_steps: steps, save_steps: 2, data_json_file: undefined },
    ...{ checkpoints_total_limit: undefined, validation_split: 3, validation_scores: 3 },
    ...{ validation_sampling_steps: 2, validation_steps: 4, cache_dir: at('cache'), ...changes },
  };
  const { exitCode, stderr } = await run([...trainWords(world, name, settings), ...more()]);
  expect(exitCode, stderr).toBe(0);
}

/** The figures of events of a type, in their order, by the keys that lead to them. */
function figures(name: string, type: 'gain' | 'scores'): [string, number][] {
  const found: [string, number][] = [];
  const visit = (path: string, value: unknown): void => {
    if (typeof value === 'number' && !/seconds|time/i.test(path)) found.push([path, value]);
    if (typeof value === 'object' && value !== null)
      for (const [key, inner] of Object.entries(value)) visit(`${path}.${key}`, inner);
  };
  for (const event of eventsOf(world, name)) if (event.type === type) visit(type, event);
  return found;
}

const stateOf = (name: string, step: number) => {
  const {
    step: steps,
    epoch,
    position,
    dataset,
  } = JSON.parse(bytesOf(world, name, step, 'training_state.json').toString());
  return { steps, epoch, position, dataset };
};

it.each([
  ['uncached', {}],
  ['cached', { cache: 'image,latents,text', image_variants: 3 }],
])('two processes train, measure and resume as one does, %s', async (kind, changes) => {
  const [one, two] = [`one-${kind}`, `two-${kind}`];
  await trained(one, 8, 1, changes);
  await trained(two, 8, 2, changes);
  expect(lossesOf(world, one)).toHaveLength(8);
  expect(largestDifference(lossesOf(world, one), lossesOf(world, two))).toBeLessThan(1e-6);
  const checkpoint = (name: string, step: number): string => at(name, `checkpoint-${step}`);
  const movement = shareOfMovement(checkpoint(one, 8), checkpoint(two, 8), checkpoint(one, 2));
  expect(movement).toBeLessThan(1e-3);
  for (const type of ['gain', 'scores'] as const) {
    const expected = figures(one, type);
    expect(expected.length).toBeGreaterThan(10);
    expect(figures(two, type)).toEqual(expected.map(([key, value]) => [key, expect.closeTo(value, 3)]));
  }
  expect(stateOf(two, 8)).toEqual(stateOf(one, 8));

  // Copies of the run of two processes as it was after four steps.
  const [resumed, straight, stopped] = ['resumed', 'straight', 'stopped'].map((name) => {
    const copy = `${name}-${kind}`;
    cpSync(at(two), at(copy), { recursive: true });
    for (const step of [6, 8]) rmSync(at(copy, `checkpoint-${step}`), { recursive: true });
    return copy;
  }) as [string, string, string];
  const sameBytes = (run: string, other: string): void => {
    for (const file of ['ip_adapter.safetensors', 'optimizer.safetensors'])
      expect(bytesOf(world, run, 8, file).equals(bytesOf(world, other, 8, file)), `${run}: ${file}`).toBe(
        true,
      );
  };
  await trained(resumed, 8, 2, { ...changes, resume: 'latest' });
  sameBytes(resumed, two);

  // From two processes to one, which is stopped again: to the bit as if it had not been.
  await trained(straight, 8, 1, { ...changes, resume: 'latest' });
  await trained(stopped, 6, 1, { ...changes, resume: 'latest' });
  await trained(stopped, 8, 1, { ...changes, resume: 'latest' });
  sameBytes(stopped, straight);
  // The rows and what is drawn for them are those of a run of one process: only the order of sums was another.
  expect(largestDifference(lossesOf(world, one), lossesOf(world, straight))).toBeLessThan(1e-6);
  expect(stateOf(straight, 8)).toEqual(stateOf(one, 8));
});
