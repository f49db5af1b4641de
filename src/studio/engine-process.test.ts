import { afterEach, expect, it, vi } from 'vitest';
import type { FromEngine } from './engine-messages.js';
import { EngineProcess } from './engine-process.js';

vi.setConfig({ testTimeout: 60_000 });

let engine: EngineProcess;
afterEach(() => engine[Symbol.dispose]());

/** Runs a job whose model is not there. @returns the last message */
function runFaulty(onStart?: () => void): Promise<FromEngine> {
  return new Promise((resolve) => {
    engine.run({
      work: {
        type: 'generate',
        models: { model: '/nowhere/model' },
        prompt: {},
        files: ['/nowhere/out.png'],
      },
      onMessage: (message) => (message.type === 'done' || message.type === 'failed') && resolve(message),
    });
    onStart?.();
  });
}
const isAlive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

it('says what is wrong, goes on, and ends when it has nothing to do', async () => {
  engine = new EngineProcess(500);
  const fault = { type: 'failed', error: expect.stringContaining('/nowhere/model'), isCancelled: false };
  expect(await runFaulty()).toEqual(fault);
  const { pid } = engine;
  expect(await runFaulty()).toEqual(fault);
  expect(engine.pid).toBe(pid);
  await vi.waitFor(() => expect(engine.pid).toBeUndefined(), { timeout: 20_000 });
  await vi.waitFor(() => expect(isAlive(pid as number)).toBe(false), { timeout: 20_000 });
});

it('tells of a process that ends, and starts another for the next job', async () => {
  engine = new EngineProcess();
  const ended = await runFaulty(() => process.kill(engine.pid as number, 'SIGKILL'));
  expect(ended).toEqual({
    ...{ type: 'failed', isCancelled: false },
    error: expect.stringMatching(/^The engine's process ended by SIGKILL; the machine may be out of memory/),
  });
  expect(await runFaulty()).toMatchObject({ error: expect.stringContaining('/nowhere/model') });
});
