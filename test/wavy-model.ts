/** @file The model of the recorded walks of tools/golden/scheduler_walks.py: a function of the scaled latents and the timestep. */
import type { Tensor } from '../src/torch/index.js';

export function wavyModel(input: Tensor, t: number): Tensor {
  const wave = input
    .mul(1.7)
    .add(0.003 * t)
    .sin();
  return input
    .mul(0.35)
    .add(wave, 0.2)
    .add(0.05 * Math.cos(t / 200));
}
