import type * as fs from 'node:fs';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { tensor } from '../../torch/index.js';
import { CheckpointKeeper } from './keeper.js';

/** The next read of a file fails as it does on a disk that fails. */
const disk = vi.hoisted(() => ({ isFailing: false }));
vi.mock('node:fs', async (original) => {
  const real = await original<typeof fs>();
  const readSync = (...args: Parameters<typeof fs.readSync>): number => {
    if (!disk.isFailing) return real.readSync(...args);
    throw Object.assign(new Error('EIO: i/o error, read'), { code: 'EIO', syscall: 'read', errno: -5 });
  };
  return { ...real, readSync };
});

let out: string;
beforeEach(() => {
  out = mkdtempSync(join(tmpdir(), 'ip-adapter-keeper-'));
});
afterEach(() => {
  disk.isFailing = false;
  rmSync(out, { recursive: true, force: true });
});

function contentOf(step: number) {
  const dataset = { rows: 3, fingerprint: 'f' };
  return {
    state: { step, totalSteps: 20, updates: step, epoch: 1, position: 2, dataset, options: {} },
    adapter: new Map([['image_proj.latents', tensor(Float32Array.of(step), [1])]]),
    ema: undefined,
    optimizer: new Map(),
    generator: Uint8Array.of(1, 2, 3),
  };
}

it('a disk that fails when a checkpoint is read back is a message; older ones stay, and the last save fails', () => {
  const messages: string[] = [];
  const keeper = new CheckpointKeeper(out, { checkpointsTotalLimit: 1 }, undefined, (text) =>
    messages.push(text),
  );
  expect(keeper.save(contentOf(1), false)).toBe(true);
  disk.isFailing = true;
  expect(keeper.save(contentOf(2), false)).toBe(false);
  expect(messages.at(-1)).toMatch(/The checkpoint of step 2 could not be written: .*EIO.* The run continues/);
  expect(keeper.newest).toBe(join(out, 'checkpoint-1'));
  expect(() => keeper.save(contentOf(3), true)).toThrow(
    /step 3 could not be written.*resume with --resume .*checkpoint-1/,
  );
  expect(readdirSync(out)).toContain('checkpoint-1');
  disk.isFailing = false;
  expect(keeper.save(contentOf(4), true)).toBe(true);
  expect(readdirSync(out)).toEqual(['checkpoint-4']);
});
