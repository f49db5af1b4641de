/** @file The kernels of attention and convolutions in training: those that a checkpoint was made with go on after it. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { writeChecksums } from '../base/checksums.js';
import { newestAttentionTable, prefersOurAttention } from '../nn/attention-kernel.js';
import { newestConvolutionTable } from '../nn/convolution-kernel.js';
import { op, torchVersion } from '../torch/index.js';
import { train } from './train.js';

const conv3x3 = op('ip_adapter::conv3x3(Tensor x, Tensor weight, Tensor? bias, int tile) -> Tensor');

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
const stateOf = (name: string, step: number): Record<string, unknown> =>
  JSON.parse(readFileSync(stateFile(name, step), 'utf8'));
const newest = { attentionTable: newestAttentionTable, convolutionTable: newestConvolutionTable };
type Table = keyof typeof newest;

it('are those of its tables, whose versions are in the checkpoint, and of an older checkpoint the older ones', async () => {
  const whole = await run('whole', { maxSteps: 3 });
  expect(stateOf('whole', 1)).toMatchObject(newest);

  /** @param older what an older version wrote otherwise, or not at all */
  const resumeFrom1 = async (
    name: string,
    older: { [table in Table]?: number | undefined } = {},
  ): Promise<Buffer> => {
    await run(name, { maxSteps: 3 });
    for (const step of [2, 3]) rmSync(at(name, `checkpoint-${step}`), { recursive: true });
    writeFileSync(stateFile(name, 1), JSON.stringify({ ...stateOf(name, 1), ...older }));
    rmSync(at(name, 'checkpoint-1', 'SHA256SUMS'));
    writeChecksums(at(name, 'checkpoint-1'));
    return run(name, { maxSteps: 3, resume: true });
  };
  expect((await resumeFrom1('newer')).equals(whole)).toBe(true);

  const hasOurAttention = prefersOurAttention({ n: 256, m: 77, width: 8, dtype: 'float32' }, torchVersion());
  const results = new Set([whole.toString('hex')]);
  for (const [name, older, differs] of [
    ['attention-1', { attentionTable: undefined }, hasOurAttention],
    ['convolution-1', { convolutionTable: undefined }, conv3x3.available],
    ['convolution-2', { convolutionTable: 2 }, conv3x3.available],
  ] as const) {
    const result = (await resumeFrom1(name, older)).toString('hex');
    const [table, version] = Object.entries(older)[0] as [Table, number | undefined];
    expect(stateOf(name, 3)).toMatchObject({ ...newest, [table]: version ?? 1 });
    expect(results.has(result), name).toBe(!differs);
    results.add(result);
  }
  // The next run of the process has the newest kernels again.
  expect((await run('again', { maxSteps: 3 })).equals(whole)).toBe(true);
});
