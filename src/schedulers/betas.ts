/**
 * @file How much noise a model saw at each timestep of its training: the betas of a config and their products.
 * Numbers are computed in float32 in diffusers' order, so that they agree to the last bits.
 */
import { cat, linspace, ones, type Tensor, tensor, tidy } from '../torch/index.js';
import type { NoiseConfig } from './config.js';

/** ᾱ: the share of signal variance left after each timestep, float32 [num_train_timesteps] on the CPU. */
export function alphasCumprodOf(config: NoiseConfig): Tensor {
  return tidy(() => alphasCumprod(makeBetas(config)));
}

function alphasCumprod(betas: Tensor): Tensor {
  return ones(betas.shape).sub(betas).cumprod(0);
}

function makeBetas(config: NoiseConfig): Tensor {
  const betas = config.trained_betas
    ? tensor(config.trained_betas, [config.trained_betas.length])
    : scheduledBetas(config);
  return config.rescale_betas_zero_snr ? rescaleZeroTerminalSnr(betas) : betas;
}

function scheduledBetas({
  beta_schedule,
  beta_start,
  beta_end,
  num_train_timesteps: steps,
}: NoiseConfig): Tensor {
  switch (beta_schedule) {
    case 'linear':
      return linspace(beta_start, beta_end, steps);
    case 'scaled_linear':
      return linspace(beta_start ** 0.5, beta_end ** 0.5, steps).pow(2);
    case 'squaredcos_cap_v2': {
      // Nichol & Dhariwal 2021: ᾱ is a squared cosine, with 0.008 for a start that is not noiseless.
      const alphaBar = (t: number) => Math.cos(((t + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
      const beta = (i: number) => Math.min(1 - alphaBar((i + 1) / steps) / alphaBar(i / steps), 0.999);
      return tensor(
        Array.from({ length: steps }, (_, i) => beta(i)),
        [steps],
      );
    }
  }
}

/** Shifts and scales √ᾱ so that its last value is 0 and its first stays. */
function rescaleZeroTerminalSnr(betas: Tensor): Tensor {
  const roots = alphasCumprod(betas).sqrt();
  const [steps = 0] = roots.shape;
  const first = roots.slice(0, 0, 1);
  const last = roots.slice(0, steps - 1);
  const bars = roots
    .sub(last)
    .mul(first.div(first.sub(last)))
    .square();
  const alphas = bars.slice(0, 1).div(bars.slice(0, 0, steps - 1));
  return cat([bars.slice(0, 0, 1), alphas])
    .neg()
    .add(1);
}
