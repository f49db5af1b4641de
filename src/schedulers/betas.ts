/**
 * @file How much noise a model saw at each timestep of its training: the betas of a config and their products.
 * Numbers are rounded to float32 where PyTorch 2.13 rounds them in diffusers' order, and not computed by LibTorch, whose
 * versions differ in last bits: a schedule, and with it the first latents of a seed, is the same on each.
 */
import { cat, type Tensor, tensor, tidy } from '../torch/index.js';
import type { NoiseConfig } from './config.js';

/** ᾱ: the share of signal variance left after each timestep, float32 [num_train_timesteps] on the CPU. */
export function alphasCumprodOf(config: NoiseConfig): Tensor {
  return tidy(() => alphasCumprod(makeBetas(config)));
}

function alphasCumprod(betas: Tensor): Tensor {
  // The product is kept in float64, as in ATen's cumprod on the CPU.
  let product = 1;
  const bars = betas.toNumbers().map((beta) => {
    product *= Math.fround(1 - beta);
    return product;
  });
  return tensor(bars, betas.shape);
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
      return tensor(linspace(beta_start, beta_end, steps), [steps]);
    case 'scaled_linear':
      return tensor(linspace(beta_start ** 0.5, beta_end ** 0.5, steps), [steps]).square();
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

/** Returns what `torch.linspace` gives in float32: each half from its own end, product and sum rounded once. */
function linspace(start: number, end: number, steps: number): number[] {
  const [first, last] = [Math.fround(start), Math.fround(end)];
  const stride = Math.fround(Math.fround(last - first) / (steps - 1));
  return Array.from({ length: steps }, (_, i) =>
    Math.fround(i < steps / 2 ? first + stride * i : last - stride * (steps - 1 - i)),
  );
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
