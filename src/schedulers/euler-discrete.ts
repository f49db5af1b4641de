/**
 * @file Euler's method on the probability flow (Karras et al., arXiv 2206.00364, algorithm 2; diffusers
 * EulerDiscreteScheduler), and its ancestral form, which adds noise at each step (k-diffusion sample_euler_ancestral;
 * diffusers EulerAncestralDiscreteScheduler).
 */
import { type Tensor, tidy } from '../torch/index.js';
import { readSpacing, type SchedulerFile, type SpacingConfig } from './config.js';
import { ancestral, KDiffusionSampler, slope } from './k-diffusion.js';
import type { NoiseSource } from './sampler.js';
import { readSchedule, type ScheduleConfig } from './schedule.js';

export interface EulerDiscreteConfig extends ScheduleConfig {
  /** Whether a model of velocity is called with the timestep, or with ¼·log σ. */
  timestep_type?: 'discrete' | 'continuous';
}

/** @throws ConfigError for a key that Euler does not support */
export function readEulerDiscrete(file: SchedulerFile): EulerDiscreteConfig {
  file.values.only('interpolation_type', 'linear');
  const timestep_type = file.values.oneOf('timestep_type', ['discrete', 'continuous']);
  return { ...readSchedule(file), timestep_type };
}

export class EulerDiscreteScheduler extends KDiffusionSampler<EulerDiscreteConfig> {
  override setTimesteps(steps: number): void {
    super.setTimesteps(steps);
    const { timestep_type, prediction_type, final_sigmas_type } = this.config;
    const levels = this.sigmas.slice(0, -1);
    if (timestep_type === 'continuous' && prediction_type === 'v_prediction')
      this.timesteps = levels.map((sigma) => 0.25 * Math.log(sigma));
    if (final_sigmas_type === 'sigma_min') this.sigmas = [...levels, this.trained[0] as number];
  }

  step(modelOutput: Tensor, _t: number, x: Tensor): Tensor {
    const [sigma, next] = this.sigmas.slice(this.calls, this.calls + 2) as [number, number];
    this.calls++;
    return tidy(() => x.add(slope(this.config, modelOutput, x, sigma), next - sigma));
  }
}

export function readEulerAncestralDiscrete({ config, values }: SchedulerFile): SpacingConfig {
  return { ...config, ...readSpacing(values) };
}

export class EulerAncestralDiscreteScheduler extends KDiffusionSampler {
  step(modelOutput: Tensor, _t: number, x: Tensor, noise: NoiseSource): Tensor {
    const [sigma, next] = this.sigmas.slice(this.calls, this.calls + 2) as [number, number];
    this.calls++;
    const { down, up } = ancestral(sigma, next);
    return tidy(() => {
      const moved = x.add(slope(this.config, modelOutput, x, sigma), down - sigma);
      return up > 0 ? moved.add(noise(), up) : moved;
    });
  }
}
