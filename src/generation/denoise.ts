/**
 * @file THE denoising loop (IP-Adapter, arXiv 2308.06721, section 3.2; diffusers StableDiffusionPipeline):
 *
 *     noise ─► latents ──┬─► UNet, text and image tokens ──┐
 *                ▲       └─► UNet, the unconditional ones ─┴─► guided prediction ─┐
 *                └──────────────── sampler, a step less noise ◄───────────────────┘
 *              latents, after the last step ─► VAE decoder ─► picture
 */
import { setImmediate } from 'node:timers/promises';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import type { AutoencoderKL } from '../models/vae/autoencoder-kl.js';
import type { NoiseSource, Sampler } from '../schedulers/sampler.js';
import { cat, full, noGrad, type Tensor, tidy } from '../torch/index.js';

/** What n pictures are to show, and what they are to be unlike. */
export interface Conditions {
  /** The text encoder's last hidden state, [n, 77, crossAttentionDim] both. */
  text: Tensor;
  negativeText: Tensor;
  /** The adapter, and its tokens of the image prompt and of the zero image, [n, numTokens, crossAttentionDim] both. */
  image?: { adapter: IPAdapter; tokens: Tensor; negativeTokens: Tensor };
}

export interface DenoiseSettings {
  steps: number;
  /** How far the prediction goes from the unconditional one towards the conditional one and beyond; 1 and less: no guidance. */
  guidanceScale: number;
  /** How strongly the image prompt counts beside the text. */
  scale: number;
  /** The image prompt acts in the steps that lie between these fractions of all, 0 … 1. */
  start: number;
  end: number;
}

export interface DenoiseHooks {
  signal?: AbortSignal;
  /** After each call of the UNet; the latents are valid until the hook returns. */
  onStep?: (report: { step: number; totalSteps: number; latents: Tensor }) => void;
}

/**
 * From noise to latents [n, latentChannels, h / 8, w / 8], float32. Memory does not depend on the number of steps.
 * @param noise draws the first latents, and what the sampler adds
 * @throws the signal's reason where it was aborted
 */
export async function denoise(
  unet: UNet2DConditionModel,
  sampler: Sampler,
  conditions: Conditions,
  settings: DenoiseSettings,
  noise: NoiseSource,
  hooks: DenoiseHooks = {},
): Promise<Tensor> {
  const { text, negativeText, image } = conditions;
  const { steps, guidanceScale, scale, start, end } = settings;
  const isGuided = guidanceScale > 1;
  using _ = sampler;
  sampler.setTimesteps(steps);
  const totalSteps = sampler.timesteps.length;
  let latents = tidy(() => noise().mul(sampler.initNoiseSigma));

  for (const [i, t] of sampler.timesteps.entries()) {
    const prompt = scale !== 0 && i / totalSteps >= start && (i + 1) / totalSteps <= end ? image : undefined;
    const prediction = tidy(() => {
      using _ = noGrad();
      const positive = prompt ? cat([text, prompt.tokens], 1) : text;
      const negative = prompt ? cat([negativeText, prompt.negativeTokens], 1) : negativeText;
      const context = isGuided ? cat([negative, positive]) : positive;
      const input = sampler.scaleModelInput(latents, t);
      const timestep = full([1], t, { device: input.device });
      using _attached = prompt && attached(prompt.adapter, scale);
      const output = unet.call(isGuided ? cat([input, input]) : input, timestep, context).to('float32');
      if (!isGuided) return output;
      const [without, conditional] = output.chunk(2) as [Tensor, Tensor];
      return without.add(conditional.sub(without), guidanceScale);
    });
    const next = sampler.step(prediction, t, latents, noise);
    prediction.dispose();
    latents.dispose();
    latents = next;
    hooks.onStep?.({ step: i + 1, totalSteps, latents });
    // Here an abort is heard: the engine holds the thread for a whole step.
    await setImmediate();
    if (hooks.signal?.aborted) {
      latents.dispose();
      throw hooks.signal.reason;
    }
  }
  return latents;
}

/** Only while the UNet runs, so that between steps it is free for others: another call, or training. */
function attached(adapter: IPAdapter, scale: number): Disposable {
  adapter.setScale(scale);
  adapter.attach();
  return { [Symbol.dispose]: () => adapter.detach() };
}

/** latents [n, latentChannels, h, w] → RGB bytes [n, 8h, 8w, 3]; one picture at a time, so that memory does not grow with n */
export function decodeLatents(vae: AutoencoderKL, latents: Tensor): Tensor {
  using _ = noGrad();
  const decode = (one: Tensor): Tensor =>
    tidy(() => {
      const image = vae.decode(one.mul(1 / vae.config.scalingFactor)).to('float32');
      const shares = image.mul(0.5).add(0.5).clamp(0, 1).permute(0, 2, 3, 1);
      // Half is added since the conversion cuts off.
      return shares.mul(255).add(0.5).to('uint8').contiguous();
    });
  return tidy(() => cat(latents.split(1).map(decode)));
}
