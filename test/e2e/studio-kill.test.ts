/** @file The studio's process: without tensors, and its end ends no training. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { runStateOf } from '../../src/training/checkpoints/run-state.js';
import { ipAdapter } from './command.js';
import { makeWorld, type World } from './world.js';

vi.setConfig({ testTimeout: 100_000 });

let world: World;
const at = (...parts: string[]): string => join(world.root, ...parts);
const children: ChildProcess[] = [];

beforeAll(async () => {
  world = await makeWorld();
  mkdirSync(at('runs'));
});
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
  for (const name of ['one', 'two']) {
    const { pid } = runStateOf(at('runs', name));
    if (pid !== undefined) process.kill(pid, 'SIGKILL');
  }
  world.remove();
});

/** Starts `ip-adapter studio`, and returns how to ask it. */
async function startStudio() {
  const words = [
    'studio',
    '--runs',
    at('runs'),
    '--datasets',
    world.root,
    '--models',
    world.root,
    '--port',
    '0',
  ];
  const hook = `cat >> '${at('events.jsonl')}'`;
  const child = spawn(process.execPath, [ipAdapter, ...words, '--on-event', hook]);
  children.push(child);
  const url = await new Promise<string>((resolve) =>
    child.stdout.once('data', (data) => resolve(String(data).trim())),
  );
  const [base, token] = url.split('#token=');
  const ask = async (path: string, method = 'GET', body?: object) => {
    const response = await fetch(`${base}api/${path}`, {
      method,
      headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json' },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    });
    return { status: response.status, json: (await response.json()) as never };
  };
  const statuses = async (): Promise<Record<string, string>> => {
    const { json } = await ask('runs');
    return Object.fromEntries(
      (json as { id: string; status: string }[]).map(({ id, status }) => [id, status]),
    );
  };
  return { child, ask, statuses };
}

const stepsOf = (name: string): number[] =>
  existsSync(at('runs', name, 'metrics.jsonl'))
    ? readFileSync(at('runs', name, 'metrics.jsonl'), 'utf8')
        .trimEnd()
        .split('\n')
        .map((line) => JSON.parse(line))
        .filter(({ type }) => type === 'step')
        .map(({ step }) => step)
    : [];

it('has no LibTorch, and when it is killed the training and the queue go on', async () => {
  const { device: _, outputDir: __, ...options } = world.optionsFor('unused');
  const first = await startStudio();
  const long = { ...options, batchSize: 2, maxSteps: 100_000, saveSteps: 100_000 };
  const added = await first.ask('runs', 'POST', { name: 'one', options: long });
  expect(added).toEqual({ status: 201, json: { id: 'one' } });
  await first.ask('runs', 'POST', { name: 'two', options: { ...long, maxSteps: 3 } });
  expect((await first.ask('runs', 'POST', { name: 'two', options: long })).status).toBe(422);
  await vi.waitFor(() => expect(stepsOf('one').length).toBeGreaterThan(3), { timeout: 60_000 });
  expect(await first.statuses()).toEqual({ one: 'running', two: 'queued' });
  if (existsSync('/proc')) {
    expect(readFileSync(`/proc/${first.child.pid}/maps`, 'utf8')).not.toMatch(/libtorch|libc10/);
    expect(readFileSync(`/proc/${runStateOf(at('runs', 'one')).pid}/maps`, 'utf8')).toMatch(/libtorch/);
  }
  // The playground's engine is a child, and has nobody to work for without the studio.
  const engine = await first.ask('playground/jobs', 'POST', { model: at('model'), steps: 1000 });
  expect(engine.status).toBe(201);
  const childrenOf = (pid: number | undefined): number[] =>
    existsSync('/proc')
      ? readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number)
      : [];
  const engines = childrenOf(first.child.pid).filter((pid) =>
    readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('studio/engine.js'),
  );
  if (existsSync('/proc')) expect(engines.length).toBe(1);
  first.child.kill('SIGKILL');
  await vi.waitFor(() => expect(engines.filter((pid) => existsSync(`/proc/${pid}`))).toEqual([]), {
    timeout: 30_000,
  });
  const before = stepsOf('one').length;
  await vi.waitFor(() => expect(stepsOf('one').length).toBeGreaterThan(before + 3), { timeout: 60_000 });

  const second = await startStudio();
  expect(await second.statuses()).toEqual({ one: 'running', two: 'queued' });
  expect((await second.ask('runs/one/requests', 'POST', { request: 'stop' })).status).toBe(202);
  await vi.waitFor(async () => expect(await second.statuses()).toEqual({ one: 'stopped', two: 'finished' }), {
    timeout: 60_000,
  });
  // Each step once, without a gap.
  const steps = stepsOf('one');
  expect(steps).toEqual(Array.from({ length: steps.length }, (_, i) => i + 1));
  expect(existsSync(at('runs', 'one', `checkpoint-${steps.length}`))).toBe(true);
  await vi.waitFor(() => {
    const events = readFileSync(at('events.jsonl'), 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events).toMatchObject([
      { type: 'end', run: 'one', failed: false },
      { type: 'end', run: 'two', failed: false },
    ]);
  });
  expect((await second.ask('runs/one/requests', 'POST', { request: 'save' })).status).toBe(409);
});
