/** @file The noise of generation: from each image's seed, as diffusers draws it. */
import type { NoiseSource } from '../schedulers/sampler.js';
import { type Device, type DType, Generator, randn, stack, tidy } from '../torch/index.js';

export interface NoiseTarget {
  /** Where the noise is used. */
  device: Device;
  /** The dtype of the models, to which the noise is rounded. */
  dtype: DType;
  /** 'cpu': the CPU's generator, the same numbers on every device; 'device': the generator of the device. */
  noise: 'cpu' | 'device';
}

/**
 * Returns a source of standard normal noise [seeds, …shape], float32. Every image has a generator of its own, so its noise is
 * the same in every batch. It equals what diffusers 0.42 on torch 2.13 draws with `torch.Generator('cpu').manual_seed(seed)` for
 * each image, bit for bit; in half precision for latents of a multiple of 16 elements.
 */
export function seededNoise(
  seeds: readonly number[],
  shape: readonly number[],
  { device, dtype, noise }: NoiseTarget,
): NoiseSource {
  const source = noise === 'cpu' ? 'cpu' : device;
  const generators = seeds.map((seed) => new Generator(source, seed));
  return () =>
    tidy(() =>
      stack(generators.map((generator) => randn(shape, { generator, device: source })))
        // LibTorch 1.13's generator for half precision is another one than today's, which rounds.
        .to(dtype)
        .to({ dtype: 'float32', device }),
    );
}
