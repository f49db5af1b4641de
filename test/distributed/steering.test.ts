/** @file A run of several processes does together what it is asked for. */
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { type Ended, ipAdapter, runProgram } from '../e2e/command.js';
import { makeWorld, type World } from '../e2e/world.js';
import { eventsOf, run, stepsOf, trainWords } from './runs.js';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

let world: World;
beforeAll(async () => {
  world = await makeWorld(12);
});
afterAll(() => world.remove());

const steer = (...words: string[]): Promise<Ended> =>
  runProgram(process.execPath, [ipAdapter, 'steer', ...words], { cwd: process.cwd() });

it('extends and stops two processes from the command line, and resumes to the new length', async () => {
  const folder = join(world.root, 'out');
  const options = { processes: 2, max_train_steps: 1000, save_steps: 1000 };
  const asked: Promise<Ended>[] = [];
  const { exitCode, stderr } = await run(trainWords(world, 'out', options), (text) => {
    if (asked.length === 0 && /Training [\d,]+ parameters/.test(text))
      asked.push(
        (async () => {
          const extended = await steer(folder, 'extend', '5');
          return extended.exitCode === 0 ? steer(folder, 'stop') : extended;
        })(),
      );
  });
  for (const { exitCode, stderr } of await Promise.all(asked)) expect(exitCode, stderr).toBe(0);
  expect(asked.length).toBe(1);
  expect(exitCode, stderr).toBe(143);
  expect(stderr).toMatch(/Stopped after step \d+/);
  expect(eventsOf(world, 'out').filter(({ type }) => type === 'request')).toMatchObject([
    { request: 'extend', steps: 5 },
    { request: 'stop' },
  ]);
  const last = stepsOf(world, 'out').at(-1)!;
  let isEnded = false;
  const resumed = await run(trainWords(world, 'out', { ...options, resume: 'auto' }), (text, child) => {
    // A second signal would end it without its lock being released.
    if (!isEnded && text.includes('from step')) isEnded = child.kill('SIGTERM');
  });
  expect(resumed.stderr).toContain(`from step ${last.step} of`);
  const gone = await steer(folder, 'save');
  expect([gone.exitCode, gone.stderr]).toEqual([2, expect.stringContaining('No run is going on in')]);
  const wrong = await steer(folder, 'extend');
  expect(wrong.stderr).toContain(
    "Expected sample, save, stop, or extend with a number of steps from 1, but received 'extend'",
  );
});
