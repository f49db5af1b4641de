import { describe, expect, it } from 'vitest';
import { target } from '../../../test/golden.js';
import { tensor, zeros } from '../../torch/index.js';
import { latentMasks } from './latent-mask.js';

describe('a latent counts as much as the mean of its pixels', () => {
  const latents = (batch: number, height: number, width: number) => zeros([batch, 4, height, width], target);

  it('of blocks of the same size', () => {
    const masks = tensor(
      [
        ...[1, 1, 0, 0, 0.5, 0.5],
        ...[1, 0, 0, 0, 0.25, 0.75],
        // The second image.
        ...[0, 0, 1, 0, 1, 1],
        ...[0, 0, 0, 0, 1, 1],
      ],
      [2, 1, 2, 6],
    ).to(target);
    const small = latentMasks(masks, latents(2, 1, 3));
    expect(small.shape).toEqual([2, 1, 1, 3]);
    expect(small.toNumbers()).toEqual([0.75, 0, 0.5, 0, 0.25, 1]);
  });

  it('of blocks that overlap, where the sizes do not divide', () => {
    // Blocks of 2 × 2 share the second row, and the second and third columns.
    const masks = tensor([...[8, 0, 4, 0], ...[0, 4, 0, 8], ...[4, 8, 12, 0]], [1, 1, 3, 4]).to(target);
    const small = latentMasks(masks, latents(1, 2, 3));
    expect(small.shape).toEqual([1, 1, 2, 3]);
    expect(small.toNumbers()).toEqual([3, 2, 3, 4, 6, 5]);
  });
});
