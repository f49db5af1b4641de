import { copyFileSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { DatasetError } from '../base/errors.js';
import type { GainEvent, RunEvent, ScoresEvent } from '../base/run-context.js';
import type { Dataset, DatasetRow } from '../data/dataset.js';
import { splitDataset } from '../data/split.js';
import { evaluate } from '../evaluation/evaluate.js';
import { fileSource } from '../images/image-source.js';
import { comparedBy } from './checks.js';
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
const withoutTime = (events: readonly GainEvent[]) =>
  events.map(({ time: _, seconds: __, ...event }) => event);
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

it('measures on another dataset in place of held-out rows', async () => {
  const dataset = join(world.root, 'images', 'all.json');
  copyFileSync(join(world.root, 'data.json'), dataset);
  const events = await run('other', { validationSplit: undefined, validationDataset: dataset });
  expect(gainsOf(events).map(({ rows }) => rows)).toEqual([12, 12]);
  expect(events.some((event) => event.type === 'message' && event.text.includes('on 12 rows'))).toBe(true);
  await expect(run('both', { validationDataset: dataset })).rejects.toThrow(/give one of them/);
});

const scored = () => ({
  ...{ validationScores: 3, validationSamplingSteps: 2, validationGuidanceScale: 3 },
  dinoEncoder: world.optionsFor('').imageEncoder,
});

it('scores images of held-out references, and does not change the training', async () => {
  const events = await run('scored', scored());
  const scores = events.filter((event) => event.type === 'scores');
  expect(scores.map(({ step, rows }) => [step, rows])).toEqual([
    [2, 3],
    [4, 3],
  ]);
  const [first, last] = scores as [ScoresEvent, ScoresEvent];
  expect(first.noAdapter).toEqual(last.noAdapter);
  expect(first.adapter.clipI.mean).not.toBe(last.adapter.clipI.mean);
  expect(first.adapter.dino).toEqual(first.adapter.clipI);
  expect(first.adapter.clipT).toBeNull();
  expect(first.shuffled.clipI.mean).not.toBe(first.adapter.clipI.mean);
  expect(linesOf('scored').filter(({ type }) => type === 'scores')).toEqual(scores);
  expect(adapterOf('scored').equals(adapterOf('measured'))).toBe(true);
  // What a run draws with a checkpoint is what evaluate draws.
  const { model, imageEncoder } = world.optionsFor('');
  const { scores: evaluated } = await evaluate({
    ...{ model, imageEncoder, adapter: join(world.root, 'scored', 'checkpoint-4') },
    ...{
      dataset: heldOutFile(),
      steps: 2,
      guidanceScale: 3,
      seed: 17,
      scales: [0, 1],
      width: 64,
      height: 64,
    },
  });
  expect(last.noAdapter.clipI.mean).toBeCloseTo(evaluated[0]?.clipI as number, 3);
  expect(last.adapter.clipI.mean).toBeCloseTo(evaluated[1]?.clipI as number, 3);
  expect(last.shuffled.clipI.mean).toBeCloseTo(evaluated[1]?.shuffled?.clipI.mean as number, 3);
});

/** Writes the rows that runs score as a dataset. */
function heldOutFile(): string {
  const rows = JSON.parse(readFileSync(join(world.root, 'data.json'), 'utf8')) as { image_file: string }[];
  const all = rows.map(({ image_file }): DatasetRow => {
    const image = fileSource(join(world.root, 'images', image_file));
    return { image, promptImage: image, captions: [''] };
  });
  const dataset = { rows: all, incomplete: [], fingerprint: '' } as unknown as Dataset;
  const names = Array.from(splitDataset(dataset, 4, 0).heldOut, ({ image }) => image.name).slice(0, 3);
  const file = join(world.root, 'images', 'held-out.json');
  writeFileSync(file, JSON.stringify(names.map((name) => ({ image_file: name, text: '' }))));
  return file;
}

it('keeps the best checkpoint beside the newest, over a resume too', async () => {
  const best = {
    ...scored(),
    keepBest: 'clip-i',
    checkpointsTotalLimit: 1,
    saveSteps: 1,
    validationSteps: 1,
  };
  const events = await run('best', best);
  const values = events.flatMap((event) => (event.type === 'scores' ? [event.adapter.clipI.mean] : []));
  const step = values.indexOf(Math.max(...values)) + 1;
  const folder = (name: string) => join(world.root, name);
  const checkpoints = (name: string) =>
    readdirSync(folder(name))
      .filter((entry) => entry.startsWith('checkpoint-'))
      .sort();
  expect(checkpoints('best')).toEqual([...new Set([`checkpoint-${step}`, 'checkpoint-4'])]);
  expect(readlinkSync(join(folder('best'), 'best'))).toBe(`checkpoint-${step}`);
  const state = JSON.parse(readFileSync(join(folder('best'), 'checkpoint-4', 'training_state.json'), 'utf8'));
  expect(state.best).toEqual({ by: 'clip-i', step, value: Math.max(...values) });

  await run('rest', { ...best, maxSteps: 3 });
  await run('rest', { ...best, resume: true });
  expect(checkpoints('rest')).toEqual(checkpoints('best'));
  expect(adapterOf('rest').equals(adapterOf('best'))).toBe(true);
  await expect(run('none', { keepBest: 'retrieval' })).rejects.toThrow(/needs images of held-out rows/);
});

it('keeps the best checkpoint by the gain, without scores', async () => {
  const options = { keepBest: 'gain', learningRate: 1e-2, checkpointsTotalLimit: 1, validationSteps: 1 };
  const events = await run('best-gain', { ...options, maxSteps: 3 });
  const gains = gainsOf(events);
  const bestStep = (key: 'gain' | 'over_base' | 'specificity'): number => {
    const values = gains.map((event) => event[key].mean);
    return values.indexOf(Math.max(...values)) + 1;
  };
  const step = bestStep('gain');
  // Not what the first, the newest, or another measure would give.
  expect([1, 3, bestStep('over_base'), bestStep('specificity')]).not.toContain(step);
  expect(readlinkSync(join(world.root, 'best-gain', 'best'))).toBe(`checkpoint-${step}`);
  const file = join(world.root, 'best-gain', 'checkpoint-3', 'training_state.json');
  const { best } = JSON.parse(readFileSync(file, 'utf8'));
  expect(best).toEqual({ by: 'gain', step, value: gains[step - 1]?.gain.mean });
});

it.each([
  ['gain', 0.1],
  ['retrieval', 0.2],
  ['dino', 0.3],
  ['clip-i', 0.4],
  ['clip-t', 0.5],
] as const)('compares checkpoints by %s, where it was measured after this step', (by, value) => {
  const at = (mean: number) => ({ mean, low: mean - 1, high: mean + 1 });
  const set = (first: number) => ({
    ...{ retrieval: at(first), dino: at(first + 0.1), clipI: at(first + 0.2), clipT: at(first + 0.3) },
    copies: at(0),
  });
  const gain = { step: 5, gain: at(0.1), over_base: at(0.6), over_none: at(0.7), specificity: at(0.8) };
  const scores = { step: 5, adapter: set(0.2), shuffled: set(1.2), noAdapter: set(2.2) };
  const latest = { gain, scores } as unknown as { gain: GainEvent; scores: ScoresEvent };
  expect(comparedBy(by, latest, 5)).toBeCloseTo(value, 12);
  expect(comparedBy(by, latest, 6)).toBeUndefined();
  expect(comparedBy(by, {}, 5)).toBeUndefined();
});

it('says what it finds once, and not again after a resume', { timeout: 180_000 }, async () => {
  // The weights stand still.
  const still = { learningRate: 1e-30, saveSteps: 200, validationSteps: 100, batchSize: 1 };
  const kindsOf = (events: readonly RunEvent[]) =>
    events.flatMap((event) => (event.type === 'verdict' ? [`${event.kind} ${event.step}`] : []));
  const events = await run('still', { ...still, maxSteps: 200 });
  const kinds = kindsOf(events);
  expect(kinds).toHaveLength(1);
  const [verdict] = events.filter((event) => event.type === 'verdict');
  expect(verdict?.text).toMatch(/in this order: weights that stand still/);
  expect(events.some((event) => event.type === 'message' && event.text === verdict?.text)).toBe(true);
  expect(linesOf('still').filter(({ type }) => type === 'verdict')).toEqual([verdict]);
  expect(kindsOf(await run('still', { ...still, maxSteps: 201, resume: true }))).toEqual([]);
});
