/**
 * @file The denoising loop (IP-Adapter, arXiv 2308.06721, section 3.2; diffusers StableDiffusionPipeline):
 *
 *     noise ─► latents ──┬─► UNet, text and image tokens ──┐
 *                ▲       └─► UNet, unconditional tokens ──┴─► guided prediction ─┐
 *                └────────────── sampler: latents with less noise ◄──────────────┘
 *              latents, after the last step ─► VAE decoder ─► image
 */
import { setImmediate } from 'node:timers/promises';
import { type ImagePrompt, isActive, isUsed, promptAddition, sideTokens } from '../adapters/image-prompt.js';
import type { Conditioning } from '../diffusion/conditioning.js';
import type { AutoencoderKL, Backbone } from '../diffusion/model.js';
import type { NoiseSource, Sampler } from '../schedulers/sampler.js';
import { cat, full, noGrad, type Tensor, tidy, zipTensors } from '../torch/index.js';
import { type Controls, residualsOf } from './controls.js';
import { type GuidanceSettings, guidedPrediction, type Side } from './guidance.js';
import { assertFinitePixels } from './non-finite.js';
import { beginAtImage, beginAtNoise, type StartImage } from './start-image.js';

/** What n images should show, and what they should be unlike. */
export interface Prompts {
  positive: Conditioning;
  negative: Conditioning;
  images: readonly ImagePrompt[];
  /** What ControlNets add. */
  controls?: Controls | undefined;
  /** The image that denoising starts from; default: noise alone. */
  start?: StartImage | undefined;
}

export interface DenoiseSettings extends GuidanceSettings {
  steps: number;
}

export interface DenoiseHooks {
  signal?: AbortSignal;
  /** After each call of the UNet; the latents are valid until the hook returns. */
  onStep?: (report: { step: number; totalSteps: number; latents: Tensor }) => void;
  /** After each guided prediction for a timestep, with the latents as the model takes them; valid until the hook returns. */
  onPrediction?: (report: {
    step: number;
    totalSteps: number;
    t: number;
    input: Tensor;
    prediction: Tensor;
  }) => void;
}

/**
 * Returns latents [n, channels, h, w], float32, from noise or from an image. Memory does not depend on the number of steps.
 * @param noise draws the first latents, and what the sampler adds
 * @throws ConfigError where the strength leaves no step; the signal's reason where it was aborted
 */
export async function denoise(
  backbone: Backbone,
  sampler: Sampler,
  prompts: Prompts,
  { steps, ...guidance }: DenoiseSettings,
  noise: NoiseSource,
  { signal, onStep, onPrediction }: DenoiseHooks = {},
): Promise<Tensor> {
  using _ = sampler;
  sampler.setTimesteps(steps);
  const { start, controls } = prompts;
  using beginning =
    start === undefined ? beginAtNoise(sampler, noise) : beginAtImage(start, sampler, steps, noise);
  const { call, concat, keep } = beginning;
  const { positive, negative } = prompts;
  const conditionings = concat === null ? prompts : withConcat({ positive, negative }, concat);
  const timesteps = sampler.timesteps.slice(call);
  const totalSteps = timesteps.length;
  let latents = beginning.latents;
  try {
    for (const [i, t] of timesteps.entries()) {
      const prediction = tidy(() => {
        using _ = noGrad();
        const active = prompts.images.filter((image) => isUsed(image) && isActive(image, i, totalSteps, t));
        const tokens = active.map(sideTokens);
        const input = sampler.scaleModelInput(latents, t);
        const timestep = full([1], t, { device: input.device });
        const predict = (sides: readonly Side[]): Tensor =>
          tidy(() => {
            const additions = active.map((image, k) =>
              promptAddition(image, joined(sides, tokens[k] as (typeof tokens)[0])),
            );
            const inputs = joined(sides, { negative: input, positive: input });
            const residuals =
              controls &&
              residualsOf(controls, { sides, input, conditionings: prompts, timestep }, i, totalSteps);
            return backbone
              .predict(inputs, timestep, joined(sides, conditionings), { additions, residuals })
              .to('float32');
          });
        return guidedPrediction(predict, guidance, i, totalSteps);
      });
      if (onPrediction !== undefined)
        tidy(() => {
          const input = sampler.scaleModelInput(latents, t);
          onPrediction({ step: i + 1, totalSteps, t, input, prediction });
        });
      const next = sampler.step(prediction, t, latents, noise);
      prediction.dispose();
      latents.dispose();
      latents = next;
      if (keep !== null) {
        latents = keep(next, call + i + 1);
        next.dispose();
      }
      onStep?.({ step: i + 1, totalSteps, latents });
      // Yield, so that an abort is noticed: the engine holds the thread for a whole step.
      await setImmediate();
      signal?.throwIfAborted();
    }
  } catch (error) {
    latents.dispose();
    throw error;
  }
  return latents;
}

function withConcat(sides: Record<Side, Conditioning>, concat: Tensor): Record<Side, Conditioning> {
  return { positive: { ...sides.positive, concat }, negative: { ...sides.negative, concat } };
}

/** Returns the records of these sides, one after another along the batch. */
function joined<T>(sides: readonly Side[], records: Readonly<Record<Side, T>>): T {
  const chosen = sides.map((side) => records[side]) as [T, ...T[]];
  return chosen.length === 1 ? chosen[0] : zipTensors(chosen, (tensors) => cat(tensors));
}

/**
 * Returns RGB bytes [n, 8h, 8w, 3] of latents [n, latentChannels, h, w]; one image at a time, so that memory does not grow
 * with n; in tiles, it does not grow with an image either.
 * @throws CheckpointError where the VAE's output is not finite
 */
export function decodeLatents(vae: AutoencoderKL, latents: Tensor, tiling = false): Tensor {
  using _ = noGrad();
  const decode = (one: Tensor): Tensor =>
    tidy(() => {
      const image = vae.decode(one.mul(1 / vae.config.scalingFactor), { tiling }).to('float32');
      assertFinitePixels(image);
      const shares = image.mul(0.5).add(0.5).clamp(0, 1).permute(0, 2, 3, 1);
      // The conversion truncates: adding half rounds.
      return shares.mul(255).add(0.5).to('uint8').contiguous();
    });
  return tidy(() => cat(latents.split(1).map(decode)));
}
