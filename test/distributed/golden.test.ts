/** @file The original's recorded training, in two processes. */
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { golden, readGolden } from '../golden.js';
import { byFile, startRanks } from './ranks.js';

it('gives the golden losses and weights', async () => {
  const folder = golden('train') as string;
  const program = fileURLToPath(new URL('golden-rank.ts', import.meta.url));
  const files = [folder, golden('unet/unet'), golden('schedulers/sd15_scheduler_config.json')] as string[];
  const ranks = startRanks(['--import', 'tsx', program, ...files], byFile(2));
  const expected = readGolden(`${folder}/losses.safetensors`).get('loss')?.toNumbers() as number[];
  for (const { code, out, err } of await Promise.all(ranks.map(({ ended }) => ended))) {
    expect(code, err).toBe(0);
    const { losses, distance } = JSON.parse(out) as { losses: number[]; distance: number };
    expect(losses).toHaveLength(expected.length);
    for (const [i, loss] of losses.entries())
      expect(Math.abs(loss / (expected[i] as number) - 1)).toBeLessThan(1e-6);
    expect(distance).toBeLessThan(1e-3);
  }
}, 120_000);
