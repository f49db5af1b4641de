/**
 * @file Noise levels σ = √((1−ᾱ)/ᾱ), by which most samplers walk instead of by timesteps, and how they are spaced
 * (Karras et al., arXiv 2206.00364; diffusers EulerDiscreteScheduler, DPMSolverMultistepScheduler).
 */
import { tidy } from '../torch/index.js';
import { betaQuantile } from './beta-quantile.js';
import { alphasCumprodOf } from './betas.js';
import type { NoiseConfig, SigmaSpacing } from './config.js';

/** Returns σ of every trained timestep, rising, each rounded to float32 as in diffusers. */
export function trainedSigmas(config: NoiseConfig): number[] {
  const bars = tidy(() => alphasCumprodOf(config).toNumbers());
  // Pure noise would be an infinite level: as diffusers does since v0.28, its signal is float16's smallest number.
  return bars.map((bar) => {
    const signal = bar === 0 ? 2 ** -24 : bar;
    return Math.fround(Math.sqrt(Math.fround(Math.fround(1 - signal) / signal)));
  });
}

/** Returns σ at a timestep that need not be whole; beyond the last trained one it stays. */
export function sigmaAt(sigmas: readonly number[], t: number): number {
  const below = Math.min(Math.floor(t), sigmas.length - 1);
  const [a, b] = [sigmas[below] as number, sigmas[below + 1] ?? (sigmas[below] as number)];
  return a + (b - a) * (t - below);
}

/**
 * Returns the timestep at which the level is σ, by its logarithm; it need not be whole.
 * @param logs the logarithms of the trained levels
 */
export function timestepAt(logs: readonly number[], sigma: number): number {
  const log = Math.log(sigma);
  let [below, above] = [0, logs.length - 1];
  while (above - below > 1) {
    const middle = (below + above) >> 1;
    if ((logs[middle] as number) > log) above = middle;
    else below = middle;
  }
  const [low, high] = [logs[below] as number, logs[below + 1] as number];
  const share = (log - low) / (high - low);
  return below + Math.min(Math.max(share, 0), 1);
}

/**
 * Returns `steps` levels from `max` down to `min`.
 *
 * - karras: the denser the lower (Karras et al. 2022, equation 5 with ρ = 7)
 * - exponential: evenly by their logarithm
 * - beta: as quantiles of the beta distribution (0.6, 0.6), denser at both ends (arXiv 2407.12173)
 */
export function spacedSigmas(spacing: SigmaSpacing, max: number, min: number, steps: number): number[] {
  const ramp = (from: number, to: number) => {
    const stride = (to - from) / Math.max(steps - 1, 1);
    return Array.from({ length: steps }, (_, i) => from + i * stride);
  };
  switch (spacing) {
    case 'karras':
      return ramp(max ** (1 / 7), min ** (1 / 7)).map((root) => root ** 7);
    case 'exponential':
      return ramp(Math.log(max), Math.log(min)).map(Math.exp);
    case 'beta':
      return ramp(1, 0).map((share) => min + betaQuantile(share, 0.6) * (max - min));
  }
}
