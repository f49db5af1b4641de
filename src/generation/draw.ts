/** @file From prompts to images: noise from the images' seeds, the denoising loop, the VAE's decoder. */
import type { RgbImage, Size } from '../base/rgb-image.js';
import type { Sampler } from '../schedulers/sampler.js';
import { releasePages, tidy, trimMemory } from '../torch/index.js';
import { type DenoiseHooks, type DenoiseSettings, decodeLatents, denoise, type Prompts } from './denoise.js';
import { assertFiniteLatents } from './non-finite.js';
import type { PipelineModels } from './pipeline-models.js';
import { type NoiseTarget, seededNoise } from './seeded-noise.js';

/**
 * Generates an image for each seed, in one batch.
 * @param prompts of as many images as there are seeds
 * @throws CheckpointError where a part's output is not finite; the signal's reason where it was aborted
 */
export async function drawImages(
  {
    backbone,
    vae,
    latents: space,
    ...target
  }: Pick<PipelineModels, 'backbone' | 'vae' | 'latents' | 'device' | 'dtype'>,
  sampler: Sampler,
  prompts: Prompts,
  seeds: readonly number[],
  {
    width,
    height,
    noise: source,
    vaeTiling,
    ...settings
  }: DenoiseSettings & Size & Pick<NoiseTarget, 'noise'> & { vaeTiling?: boolean | undefined },
  hooks: DenoiseHooks,
): Promise<RgbImage[]> {
  const shape = [space.channels, height / space.downsample, width / space.downsample];
  const noise = seededNoise(seeds, shape, { ...target, noise: source });
  const latents = await denoise(backbone, sampler, prompts, settings, noise, hooks);
  using _ = { [Symbol.dispose]: () => latents.dispose() };
  assertFiniteLatents(latents, prompts, backbone);
  // The backbone and the decoder are in memory in turn, not together.
  releasePages(backbone, ...(prompts.controls?.nets ?? []).map(({ net }) => net));
  trimMemory();
  const pixels = tidy(() => decodeLatents(vae, latents, vaeTiling).toBytes());
  releasePages(vae);
  trimMemory();
  const bytes = width * height * 3;
  return seeds.map((_, i) => ({ data: pixels.slice(i * bytes, (i + 1) * bytes), width, height }));
}
