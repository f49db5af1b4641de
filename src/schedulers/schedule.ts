/** @file At which timesteps and noise levels the samplers that walk by noise levels call the model. */

import { roundHalfToEven } from '../base/round.js';
import {
  readSigmas,
  readSpacing,
  type SchedulerFile,
  type SigmasConfig,
  type SpacingConfig,
} from './config.js';
import { linspace, spacedTimesteps } from './sampler.js';
import { sigmaAt, spacedSigmas, timestepAt } from './sigmas.js';

export interface ScheduleConfig extends SpacingConfig, SigmasConfig {}

/** @throws ConfigError for a spacing that is not supported */
export function readSchedule({ config, values }: SchedulerFile): ScheduleConfig {
  return { ...config, ...readSpacing(values), ...readSigmas(values) };
}

/** The timesteps of the model's calls, and the noise level at each. */
export interface Schedule {
  timesteps: readonly number[];
  sigmas: readonly number[];
}

/**
 * Returns the schedule of the samplers of k-diffusion: Euler, Heun, LMS, DPM2 and DPM++ SDE. Their timesteps need not
 * be whole, and Karras' levels and the like go from the largest to the least level of the spaced timesteps.
 * @param trained σ of every trained timestep
 */
export function kDiffusionSchedule(
  config: ScheduleConfig,
  trained: readonly number[],
  steps: number,
): Schedule {
  const last = config.num_train_timesteps - 1;
  const spacing = config.timestep_spacing ?? 'linspace';
  const timesteps =
    spacing === 'linspace'
      ? Array.from({ length: steps }, (_, i) => linspace(0, last, steps, steps - 1 - i))
      : spacedTimesteps(spacing, steps, config);
  const sigmas = timesteps.map((t) => sigmaAt(trained, t));
  if (config.sigma_spacing === undefined) return { timesteps, sigmas };
  const max = config.sigma_max ?? (sigmas[0] as number);
  const min = config.sigma_min ?? (sigmas.at(-1) as number);
  const levels = spacedSigmas(config.sigma_spacing, max, min, steps);
  const logs = trained.map(Math.log);
  return { timesteps: levels.map((sigma) => timestepAt(logs, sigma)), sigmas: levels };
}

/**
 * Returns the schedule of the multistep solvers: DPM-Solver++, DEIS and UniPC. Their timesteps are whole. One more than
 * there are steps is spaced out, and the least noisy one is where the last step goes.
 * @param trained σ of every trained timestep
 */
export function solverSchedule(config: ScheduleConfig, trained: readonly number[], steps: number): Schedule {
  const { sigma_spacing, sigma_max = trained.at(-1) as number, sigma_min = trained[0] as number } = config;
  if (sigma_spacing === undefined) {
    const spacing = config.timestep_spacing ?? 'linspace';
    const timesteps =
      spacing === 'trailing'
        ? spacedTimesteps(spacing, steps, config)
        : spacedTimesteps(spacing, steps + 1, config).slice(0, -1);
    return { timesteps, sigmas: timesteps.map((t) => sigmaAt(trained, t)) };
  }
  const sigmas = spacedSigmas(sigma_spacing, sigma_max, sigma_min, steps);
  const logs = trained.map(Math.log);
  const timesteps = sigmas.map((sigma) => timestepAt(logs, sigma));
  if (sigma_spacing === 'karras') return { timesteps: timesteps.map(roundHalfToEven), sigmas };
  // diffusers cuts off the fractions; in its float32 the largest level lies a hair below the last trained timestep.
  const cut = timesteps.map((t, i) => (i === 0 ? Math.max(Math.floor(t - 1e-4), 0) : Math.floor(t)));
  return { timesteps: cut, sigmas };
}
