/** @file One step of DPM-Solver++, with or without noise, from the outputs at up to three levels. */
import type { Tensor } from '../torch/index.js';
import type { SchedulerFile } from './config.js';
import type { NoiseSource } from './sampler.js';
import { type Level, readSolver, type SolverConfig } from './solver.js';

export interface DPMSolverConfig extends SolverConfig {
  algorithm_type?: 'dpmsolver++' | 'sde-dpmsolver++';
  solver_type?: 'midpoint' | 'heun';
}

/** @throws ConfigError for a key that DPM-Solver++ does not support */
export function readDPMSolver(file: SchedulerFile): DPMSolverConfig {
  const { values } = file;
  values.only('lambda_min_clipped', Number.NEGATIVE_INFINITY);
  const algorithm = values.oneOf('algorithm_type', ['dpmsolver++', 'sde-dpmsolver++', 'deis']);
  // The last three are of other classes (DEIS, UniPC); diffusers takes the midpoint method for them.
  const solver = values.oneOf('solver_type', ['midpoint', 'heun', 'logrho', 'bh1', 'bh2']);
  return {
    ...readSolver(file),
    algorithm_type: algorithm === 'sde-dpmsolver++' ? algorithm : 'dpmsolver++',
    solver_type: solver === 'heun' ? 'heun' : 'midpoint',
  };
}

/** The predicted latents without noise as a polynomial of λ: their value, first and second derivative times h, h². */
export interface Derivatives {
  /** The order of the step that they make. */
  order: number;
  value: Tensor;
  first?: Tensor;
  second?: Tensor;
}

/**
 * Returns the latents at level `to` from those at `from` (Lu et al., arXiv 2211.01095, equation 4.1 and appendix B;
 * for the form with noise diffusers DPMSolverMultistepScheduler).
 */
export function dpmSolverStep(
  { algorithm_type, solver_type }: DPMSolverConfig,
  x: Tensor,
  from: Level,
  to: Level,
  { order, value, first, second }: Derivatives,
  noise: NoiseSource,
): Tensor {
  const h = to.lambda - from.lambda;
  // At a step of no length nothing changes.
  if (h === 0) return x.clone();
  const isSDE = algorithm_type === 'sde-dpmsolver++';
  const k = isSDE ? 2 * h : h;
  const gain = -to.alpha * Math.expm1(-k);
  const linear = to.alpha * (Math.expm1(-k) / k + 1);
  let next = x.mul((to.sigma / from.sigma) * (isSDE ? Math.exp(-h) : 1)).add(value, gain);
  if (first) next = next.add(first, order === 3 || solver_type === 'heun' ? linear : gain / 2);
  if (second) {
    // diffusers adds the half in the form with noise.
    const half = isSDE ? -1 / 2 : 1 / 2;
    next = next.add(second, -to.alpha * ((Math.expm1(-k) + k) / k ** 2 - half));
  }
  return isSDE && to.sigma > 0 ? next.add(noise(), to.sigma * Math.sqrt(-Math.expm1(-2 * h))) : next;
}
