import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { DatasetError } from '../base/errors.js';
import type { GainEvent, RunEvent } from '../base/run-context.js';
import { train } from './train.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(12);
});
afterAll(() => world.remove());

async function run(name: string, more: object = {}): Promise<RunEvent[]> {
  const events: RunEvent[] = [];
  const options = {
    ...world.optionsFor(name),
    ...{ batchSize: 2, maxSteps: 4, validationSteps: 2, validationSplit: 4, ...more },
  };
  await train(options, { onEvent: (event) => events.push(event) });
  return events;
}
const gainsOf = (events: readonly RunEvent[]): GainEvent[] => events.filter((event) => event.type === 'gain');
const withoutTime = (events: readonly GainEvent[]) => events.map(({ time: _, ...event }) => event);
const linesOf = (name: string): Record<string, unknown>[] =>
  readFileSync(join(world.root, name, 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
const adapterOf = (name: string) =>
  readFileSync(join(world.root, name, 'checkpoint-4', 'ip_adapter.safetensors'));

it('measures after every validation step, on rows that are not trained on', async () => {
  const events = await run('measured');
  const gains = gainsOf(events);
  expect(gains.map(({ step, rows }) => [step, rows])).toEqual([
    [2, 4],
    [4, 4],
  ]);
  expect(gains[0]?.loss.base).toBe(gains[1]?.loss.base);
  expect(gains[0]?.loss.right).not.toBe(gains[1]?.loss.right);
  expect(events.some((event) => event.type === 'message' && event.text.includes('on 8 rows'))).toBe(true);
  const lines = linesOf('measured');
  expect(lines.filter(({ type }) => type === 'gain')).toEqual(gains);
  expect(lines.map(({ type, step }) => `${type} ${step}`)).toEqual([
    'step 1',
    'step 2',
    'gain 2',
    'step 3',
    'step 4',
    'gain 4',
  ]);
});

it('does not change the training: the same weights as where it is measured more often, and with caches the same figures', async () => {
  const often = gainsOf(await run('often', { validationSteps: 1 }));
  expect(adapterOf('often').equals(adapterOf('measured'))).toBe(true);
  const cached = gainsOf(await run('cached', { validationSteps: 1, cache: 'latents,text' }));
  expect(cached.map(({ step }) => step)).toEqual([1, 2, 3, 4]);
  // A training with caches differs in its last bits.
  for (const [i, { loss }] of cached.entries())
    expect(loss.right).toBeCloseTo(often[i]?.loss.right as number, 5);
});

it('resumes bit-exactly, with the same rows held out', async () => {
  await run('resumed', { maxSteps: 2, saveSteps: 2 });
  const rest = gainsOf(await run('resumed', { resume: true }));
  const whole = linesOf('measured').filter(({ type }) => type === 'gain') as unknown as GainEvent[];
  expect(withoutTime(rest)).toEqual(withoutTime(whole.slice(1)));
  expect(adapterOf('resumed').equals(adapterOf('measured'))).toBe(true);
  await expect(run('resumed', { resume: true, validationSplit: 5 })).rejects.toThrow(
    /validation_?split|rows/i,
  );
});

it('refuses to hold out every row', async () => {
  await expect(run('all', { validationSplit: 12 })).rejects.toThrow(DatasetError);
  rmSync(join(world.root, 'all'), { recursive: true, force: true });
});
