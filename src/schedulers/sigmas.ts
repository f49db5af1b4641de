/**
 * @file Noise levels σ = √((1−ᾱ)/ᾱ), by which Euler and DPM-Solver walk instead of by timesteps (Karras et al.,
 * arXiv 2206.00364; diffusers EulerDiscreteScheduler, DPMSolverMultistepScheduler).
 */
import { tidy } from '../torch/index.js';
import { alphasCumprodOf } from './betas.js';
import type { NoiseConfig, SigmasConfig } from './config.js';

/** σ of every trained timestep, rising. */
export function trainedSigmas(config: NoiseConfig): number[] {
  const bars = tidy(() => alphasCumprodOf(config).toNumbers());
  // Pure noise would be an infinite level: as diffusers does since v0.28, its signal is float16's smallest number.
  return bars.map((bar) => Math.sqrt((1 - bar) / (bar === 0 ? 2 ** -24 : bar)));
}

/** σ at a timestep that need not be whole; beyond the last trained one it stays. */
export function sigmaAt(sigmas: readonly number[], t: number): number {
  const below = Math.min(Math.floor(t), sigmas.length - 1);
  const [a, b] = [sigmas[below] as number, sigmas[below + 1] ?? (sigmas[below] as number)];
  return a + (b - a) * (t - below);
}

/** The timestep at which the level is σ, by its logarithm; it need not be whole. */
export function timestepAt(sigmas: readonly number[], sigma: number): number {
  const above = sigmas.findIndex((one) => one > sigma);
  const below = Math.min(Math.max((above === -1 ? sigmas.length : above) - 1, 0), sigmas.length - 2);
  const [low, high] = [Math.log(sigmas[below] as number), Math.log(sigmas[below + 1] as number)];
  const share = (Math.log(sigma) - low) / (high - low);
  return below + Math.min(Math.max(share, 0), 1);
}

/**
 * Returns `steps` levels down from the largest to the least, the denser the lower (equation 5 with ρ = 7).
 * @param max the largest, unless the config has its own; `min`: the least
 */
export function karrasSigmas(
  { sigma_max, sigma_min }: SigmasConfig,
  max: number,
  min: number,
  steps: number,
): number[] {
  const [high, low] = [(sigma_max ?? max) ** (1 / 7), (sigma_min ?? min) ** (1 / 7)];
  const stride = (low - high) / Math.max(steps - 1, 1);
  return Array.from({ length: steps }, (_, i) => (high + i * stride) ** 7);
}
