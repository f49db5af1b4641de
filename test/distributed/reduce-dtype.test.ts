/** @file Gradients that are added up in bfloat16. */
import { expect, it } from 'vitest';
import { torchVersion } from '../../src/torch/index.js';
import { makeWorld } from '../e2e/world.js';
import { bytesOf, lossesOf, run, shareOfMovement, trainWords } from './runs.js';

/** Gloo of LibTorch 1.13 does not add up bfloat16. */
const isOld = torchVersion().startsWith('1.');
const steps = { max_train_steps: 8, save_steps: 1, checkpoints_total_limit: undefined };

it('--reduce-dtype bf16 is refused by name where it cannot work', async () => {
  const world = await makeWorld(4);
  try {
    const alone = await run(trainWords(world, 'alone', { ...steps, rows: 4, reduce_dtype: 'bf16' }));
    expect([alone.exitCode, alone.stderr]).toEqual([
      2,
      expect.stringMatching(/ConfigError: --reduce-dtype .* is bf16, but one process adds nothing up/),
    ]);
    if (!isOld) return;
    const old = await run(
      trainWords(world, 'old', { ...steps, rows: 4, processes: 2, reduce_dtype: 'bf16' }),
    );
    expect([old.exitCode, old.stderr]).toEqual([
      2,
      expect.stringMatching(
        /ConfigError: --reduce-dtype .* is bf16, which Gloo of LibTorch 1\.\S+ cannot add up/,
      ),
    ]);
  } finally {
    world.remove();
  }
}, 60_000);

it.skipIf(isOld)(
  'adds up in bfloat16: the same bytes again, and nearly the weights of float32',
  async () => {
    const world = await makeWorld(8);
    try {
      for (const [name, dtype] of [
        ['fp32', 'fp32'],
        ['bf16', 'bf16'],
        ['again', 'bf16'],
      ] as const) {
        const words = trainWords(world, name, { ...steps, rows: 4, processes: 2, reduce_dtype: dtype });
        const { exitCode, stderr } = await run(words);
        expect(exitCode, stderr).toBe(0);
      }
      expect(bytesOf(world, 'bf16', 8).equals(bytesOf(world, 'again', 8))).toBe(true);
      expect(lossesOf(world, 'bf16')[0]).toBe(lossesOf(world, 'fp32')[0]);
      const [fp32, bf16, start] = [
        ['fp32', 8],
        ['bf16', 8],
        ['fp32', 1],
      ].map(([name, step]) => `${world.root}/${name}/checkpoint-${step}`) as [string, string, string];
      const share = shareOfMovement(fp32, bf16, start);
      // Eight bits of mantissa; AdamW divides a gradient by its own size.
      expect(share).toBeGreaterThan(0);
      expect(share).toBeLessThan(0.05);
    } finally {
      world.remove();
    }
  },
  120_000,
);
