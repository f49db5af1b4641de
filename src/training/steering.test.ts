import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { parse } from 'yaml';
import { makeWorld, type World } from '../../test/e2e/world.js';
import type { RunEvent } from '../base/run-context.js';
import { type SteeringRequest, writeRequest } from '../base/steering.js';
import { type TrainResult, train } from './train.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(12);
});
afterAll(() => world.remove());

const options = { batchSize: 2, maxSteps: 4, learningRate: 1e-2 };
const folderOf = (name: string): string => join(world.root, name);
const adapterOf = (name: string, step: number) =>
  readFileSync(join(folderOf(name), `checkpoint-${step}`, 'ip_adapter.safetensors'));
const checkpointsOf = (name: string) =>
  readdirSync(folderOf(name)).filter((file) => file.startsWith('checkpoint-'));
const optionsOf = (name: string) => parse(readFileSync(join(folderOf(name), 'config.yaml'), 'utf8'));
const linesOf = (name: string): Record<string, unknown>[] =>
  readFileSync(join(folderOf(name), 'metrics.jsonl'), 'utf8')
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));

/** Trains, and asks for something when a step has begun to be reported. */
async function run(
  name: string,
  requests: Readonly<Record<number, SteeringRequest>> = {},
  more: object = {},
): Promise<TrainResult & { messages: string[] }> {
  const messages: string[] = [];
  let batches = 0;
  const result = await train(
    { ...world.optionsFor(name), ...options, ...more },
    {
      onEvent: (event: RunEvent) => {
        if (event.type === 'message') messages.push(event.text);
        // Saves after each step make an event at each.
        if (event.type !== 'checkpoint') return;
        batches = event.step;
        const request = requests[batches];
        if (request !== undefined) writeRequest(folderOf(name), request);
      },
    },
  );
  return { ...result, messages };
}

it('makes a run longer, and logs and records it', async () => {
  const { step } = await run('extended', { 2: { request: 'extend', steps: 3 } }, { saveSteps: 1 });
  expect(step).toBe(7);
  const [request] = linesOf('extended').filter(({ type }) => type === 'request');
  expect(request).toMatchObject({ v: 1, step: 2, request: 'extend', steps: 3 });
  expect(request?.id).toMatch(/^\d+-/);
  expect(linesOf('extended').at(-1)).toMatchObject({ step: 7, total_steps: 7 });
  expect(optionsOf('extended').requests).toEqual([{ step: 2, request: 'extend', steps: 3 }]);
  expect(statSync(join(folderOf('extended'), 'control')).mode & 0o777).toBe(0o700);
  expect(readdirSync(join(folderOf('extended'), 'control'))).toEqual([]);
});

it('changes the schedule of an extended run from that step on, and repeats it bit-exactly from its options', async () => {
  const more = { lrScheduler: 'linear', lrWarmupSteps: 0, saveSteps: 1 };
  await run('linear', { 2: { request: 'extend', steps: 3 } }, more);
  await run('whole', {}, { ...more, maxSteps: 7 });
  expect(adapterOf('linear', 2).equals(adapterOf('whole', 2))).toBe(false);
  const rate = (name: string, step: number) =>
    linesOf(name).find((line) => line.step === step && line.type === 'step')?.['lr/image_proj'] as number;
  expect(rate('linear', 2)).toBeCloseTo((1e-2 * 3) / 4, 12);
  expect(rate('linear', 3)).toBeCloseTo((1e-2 * 5) / 7, 12);
  await run('repeated', {}, { ...more, requests: optionsOf('linear').requests });
  expect(adapterOf('repeated', 7).equals(adapterOf('linear', 7))).toBe(true);
  expect(optionsOf('repeated').requests).toEqual(optionsOf('linear').requests);
});

it('resumes a run that was made longer and stopped, to the length that was asked for', async () => {
  const more = { lrScheduler: 'linear', lrWarmupSteps: 0, saveSteps: 1 };
  const stopped = await run('stopped', { 2: { request: 'extend', steps: 3 }, 5: { request: 'stop' } }, more);
  expect([stopped.step, stopped.isStopped]).toEqual([5, true]);
  const resumed = await run('stopped', {}, { ...more, resume: true });
  expect([resumed.step, resumed.isStopped]).toEqual([7, false]);
  expect(adapterOf('stopped', 7).equals(adapterOf('linear', 7))).toBe(true);
  // Another length that is given counts.
  const longer = await run('stopped', {}, { ...more, resume: true, maxSteps: 8 });
  expect(longer.step).toBe(8);
});

it('extends a run whose length is in epochs, also after its last step', async () => {
  // 12 rows in batches of 2: 6 steps.
  const more = { maxSteps: undefined, epochs: 1, saveSteps: 1 };
  const { step, isStopped } = await run('epochs', { 6: { request: 'extend', steps: 2 } }, more);
  expect([step, isStopped]).toEqual([8, false]);
});

it('saves and samples when it is asked to, which changes nothing of the training', async () => {
  await run('plain');
  const image = join(world.root, 'images', '0.png');
  const more = { validationImages: [image], validationSamplingSteps: 2, validationSteps: 100 };
  const steered = {
    ...more,
    requests: [
      { step: 1, request: 'save' },
      { step: 3, request: 'sample' },
    ],
  };
  await run('sampled', {}, steered);
  expect(checkpointsOf('sampled')).toEqual(['checkpoint-1', 'checkpoint-4']);
  expect(existsSync(join(folderOf('sampled'), 'validation', 'step-3.png'))).toBe(true);
  expect(adapterOf('sampled', 4).equals(adapterOf('plain', 4))).toBe(true);
  const { messages } = await run('nothing', {}, { requests: [{ step: 1, request: 'sample' }] });
  expect(messages.some((text) => text.includes('nothing to sample'))).toBe(true);
});

it('moves aside what is not a request, and names it', async () => {
  const control = join(folderOf('garbage'), 'control');
  mkdirSync(control, { recursive: true });
  writeFileSync(join(control, '1-early.json'), '{"request": "stop"}');
  const result = await train(
    { ...world.optionsFor('garbage'), ...options, saveSteps: 1 },
    {
      onEvent: (event) => {
        if (event.type !== 'checkpoint' || event.step !== 1) return;
        writeFileSync(join(control, '2-not-json.json'), 'stop');
        writeFileSync(join(control, '3-unknown.json'), '{"request": "fly"}');
        writeFileSync(join(control, '4-extra.json'), '{"request": "extend", "steps": -1}');
        writeFileSync(join(control, '5-large.json'), ' '.repeat(5000));
        symlinkSync('/etc/passwd', join(control, '6-link.json'));
        mkdirSync(join(control, '7-folder.json'));
      },
    },
  );
  expect([result.step, result.isStopped]).toEqual([4, false]);
  expect(readdirSync(control)).toEqual(['rejected']);
  expect(readdirSync(join(control, 'rejected')).length).toBe(7);
});
