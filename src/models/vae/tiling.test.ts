import { describe, expect, it } from 'vitest';
import { expectAllclose, modelCases, target } from '../../../test/golden.js';
import { Generator, memoryStats, noGrad, randn, type Tensor, tidy } from '../../torch/index.js';
import { loadVAE } from '../../weights/load.js';
import { AutoencoderKL } from './autoencoder-kl.js';
import { inTiles } from './tiling.js';

const generator = new Generator('cpu', 3);

describe('inTiles', () => {
  it('gives what a network without neighbours gives, at any size', () => {
    for (const [height, width] of [
      [8, 8],
      [9, 20],
      [31, 8],
      [32, 32],
    ] as const) {
      const x = randn([2, 3, height, width], { generator });
      expectAllclose(
        inTiles(x, (tile) => tile.mul(2), { input: 8, output: 8 }),
        x.mul(2),
        1e-6,
      );
    }
  });

  it('fades from one tile to the next over a quarter of it', () => {
    // Each tile is its own number: 0, 1, …; tiles of 8 begin every 6 columns.
    let next = 0;
    const number = (tile: Tensor): Tensor => tile.mul(0).add(tile.add(next++).sub(tile));
    const row = inTiles(randn([1, 1, 1, 14], { generator }).mul(0), number, {
      input: 8,
      output: 8,
    }).toNumbers();
    expect(row).toEqual([0, 0, 0, 0, 0, 0, 0, 0.5, 1, 1, 1, 1, 1, 1.5]);
  });
});

describe('AutoencoderKL in tiles', () => {
  const [one] = modelCases('vae') as [ReturnType<typeof modelCases>[number]];

  it('is the whole at once where it is one tile, and near it where it is several', () => {
    using _ = noGrad();
    using vae = loadVAE(one.folder, target);
    const before = memoryStats().liveTensors;
    tidy(() => {
      const side = vae.config.sampleSize;
      const image = randn([1, 3, side, side], { generator }).to(target);
      expectAllclose(vae.encode(image, { tiling: true }).mean, vae.encode(image).mean, 0);
      const latents = randn([1, 4, 24, 20], { generator }).to(target);
      const smallTiles = new AutoencoderKL({ ...vae.config, sampleSize: 64 });
      smallTiles.loadStateDict(vae.namedParameters(), 'vae');
      const [whole, tiled] = [vae.decode(latents), smallTiles.decode(latents, { tiling: true })];
      expect(tiled.shape).toEqual(whole.shape);
      expect(() => expectAllclose(tiled, whole, 1e-3)).toThrow();
    });
    expect(memoryStats().liveTensors).toBe(before);
  });
});
