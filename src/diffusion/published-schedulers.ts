/** @file The published scheduler_config.json files, which a single file does not contain. */
import type { JsonObject } from '../base/json.js';
import type { Prediction } from '../weights/single-file.js';

/** Of Stable Diffusion 1.5. */
export const sd15Scheduler = {
  _class_name: 'PNDMScheduler',
  beta_end: 0.012,
  beta_schedule: 'scaled_linear',
  beta_start: 0.00085,
  clip_sample: false,
  num_train_timesteps: 1000,
  set_alpha_to_one: false,
  skip_prk_steps: true,
  steps_offset: 1,
  trained_betas: null,
};

/** Of Stable Diffusion XL 1.0. */
export const sdxlScheduler = {
  ...sd15Scheduler,
  _class_name: 'EulerDiscreteScheduler',
  interpolation_type: 'linear',
  prediction_type: 'epsilon',
  sample_max_value: 1,
  timestep_spacing: 'leading',
  use_karras_sigmas: false,
};

/**
 * Returns a config for what a file was trained to predict. Pure noise is sampled from its timestep on, the last, which only
 * the spacing 'trailing' begins with whatever the number of steps (Lin et al., arXiv 2305.08891, section 3.3).
 */
export function schedulerFor(config: JsonObject, { isVelocity, hasZeroTerminalSnr }: Prediction): JsonObject {
  return {
    ...config,
    ...(isVelocity && { prediction_type: 'v_prediction' }),
    ...(hasZeroTerminalSnr && { rescale_betas_zero_snr: true, timestep_spacing: 'trailing' }),
  };
}
