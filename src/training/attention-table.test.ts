/** @file The kernels of attention in training: those that a checkpoint was made with go on after it. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { writeChecksums } from '../base/checksums.js';
import { newestAttentionTable, prefersOurAttention } from '../nn/attention-kernel.js';
import { torchVersion } from '../torch/index.js';
import { train } from './train.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld();
});
afterAll(() => world.remove());

const at = (...names: string[]): string => join(world.root, ...names);

/** Trains with 256 queries at the first level, of which the table leaves text to ours. */
async function run(name: string, options: Record<string, unknown>): Promise<Buffer> {
  await train({ ...world.optionsFor(name), resolution: 128, saveSteps: 1, ...options });
  return readFileSync(at(name, 'checkpoint-3', 'ip_adapter.safetensors'));
}

const stateFile = (name: string, step: number): string =>
  at(name, `checkpoint-${step}`, 'training_state.json');
const tableOf = (name: string, step: number): unknown =>
  JSON.parse(readFileSync(stateFile(name, step), 'utf8')).attentionTable;

it('are those of its table, whose version is in the checkpoint, and of an older checkpoint the older ones', async () => {
  const whole = await run('whole', { maxSteps: 3 });
  expect(tableOf('whole', 1)).toBe(newestAttentionTable);

  const resumeFrom1 = async (name: string, isOlder: boolean): Promise<Buffer> => {
    await run(name, { maxSteps: 3 });
    for (const step of [2, 3]) rmSync(at(name, `checkpoint-${step}`), { recursive: true });
    if (isOlder) {
      const { attentionTable: _, ...state } = JSON.parse(readFileSync(stateFile(name, 1), 'utf8'));
      writeFileSync(stateFile(name, 1), JSON.stringify(state));
      rmSync(at(name, 'checkpoint-1', 'SHA256SUMS'));
      writeChecksums(at(name, 'checkpoint-1'));
    }
    return run(name, { maxSteps: 3, resume: true });
  };
  expect((await resumeFrom1('newer', false)).equals(whole)).toBe(true);
  const older = await resumeFrom1('older', true);
  expect(tableOf('older', 3)).toBe(1);
  const differs = prefersOurAttention({ n: 256, m: 77, width: 8, dtype: 'float32' }, torchVersion());
  expect(older.equals(whole)).toBe(!differs);
  // The next run of the process has the newest kernels again.
  expect((await run('again', { maxSteps: 3 })).equals(whole)).toBe(true);
});
