/**
 * @file The image that denoising starts from: image-to-image (Meng et al., SDEdit, arXiv 2108.01073; diffusers
 * StableDiffusionImg2ImgPipeline), and inpainting, where a part of it stays (diffusers StableDiffusionInpaintPipeline). The draws
 * of noise are diffusers', in its order.
 */
import { ConfigError } from '../base/errors.js';
import type { AutoencoderKL } from '../diffusion/model.js';
import { stepsLeftOut } from '../options/source-options.js';
import type { NoiseSource, Sampler } from '../schedulers/sampler.js';
import { cat, noGrad, type Tensor, tensor, tidy } from '../torch/index.js';

export interface StartImage {
  /** The image's latents. */
  image: Latents;
  /** The share of the steps that are done, above 0 … 1: with 1, an image is only a hint, and an inpainted part is new. */
  strength: number;
  inpainting?: Inpainting;
}

interface Inpainting {
  /** 1 where the image becomes new, [1, 1, h, w]. */
  mask: Tensor;
  /** The latents of the image without the part that becomes new, for a UNet that takes them; null for others. */
  rest: Latents | null;
}

/** A normal distribution over the latents of one image, as the backbone has them, [1, channels, h, w] float32. */
interface Latents {
  mean: Tensor;
  std: Tensor;
}

/** A mask of pixels, row-major: 1 where the image becomes new, 0 where it stays. */
export interface Mask {
  values: Uint8Array;
  width: number;
  height: number;
}

/**
 * Encodes the image to start from. The result is to be given to `releaseTensors` after use.
 * @param image [1, 3, height, width] in -1 … 1
 * @param mask of the image's size; null for image-to-image
 * @param options whether the UNet takes the mask and the rest of the image, and whether to encode in tiles
 * @throws ConfigError where the mask covers no latent
 */
export function startImage(
  vae: AutoencoderKL,
  image: Tensor,
  strength: number,
  mask: Mask | null,
  { takesMask, tiling = false }: { takesMask: boolean; tiling?: boolean },
): StartImage {
  using _ = noGrad();
  return tidy(() => {
    const encode = (pixels: Tensor): Latents => {
      const { mean, std } = vae.encode(pixels, { tiling });
      const scaled = (one: Tensor): Tensor => one.to('float32').mul(vae.config.scalingFactor);
      return { mean: scaled(mean), std: scaled(std) };
    };
    const latents = encode(image);
    if (mask === null) return { image: latents, strength };
    const kept = tensor(
      Float32Array.from(mask.values, (value) => 1 - value),
      [1, 1, mask.height, mask.width],
    );
    const rest = takesMask ? encode(image.mul(kept.to(image.device))) : null;
    return { image: latents, strength, inpainting: { mask: maskOfLatents(mask, latents.mean), rest } };
  });
}

/**
 * Takes the pixel at each latent's top left, as PyTorch's nearest interpolation does.
 * @throws ConfigError where all that is white lies between these pixels
 */
function maskOfLatents({ values, width, height }: Mask, latents: Tensor): Tensor {
  const [, , rows = 0, columns = 0] = latents.shape;
  const picked = new Float32Array(rows * columns);
  for (let y = 0; y < rows; y++)
    for (let x = 0; x < columns; x++) {
      const [top, left] = [Math.floor((y * height) / rows), Math.floor((x * width) / columns)];
      picked[y * columns + x] = values[top * width + left] as number;
    }
  if (!picked.includes(1))
    throw new ConfigError(
      `Expected a larger white part in --mask-image (maskImage): at ${width} × ${height} pixels it covers none of the ${columns} × ${rows} latents, of which each is masked as its top left pixel`,
    );
  return tensor(picked, [1, 1, rows, columns]).to(latents.device);
}

/** Where a walk begins. */
export interface Beginning {
  /** The number of the sampler's first call. */
  call: number;
  latents: Tensor;
  /** Inpainting with a UNet that takes masks: what it takes after the latents; null for others. */
  concat: Tensor | null;
  /** Inpainting with any UNet: the latents before a call, and after the last, with the kept part put in again. */
  keep: ((latents: Tensor, nextCall: number) => Tensor) | null;
  /** Releases what `concat` and `keep` need. */
  [Symbol.dispose](): void;
}

/** Begins at noise. @param sampler with its timesteps set */
export function beginAtNoise(sampler: Sampler, noise: NoiseSource): Beginning {
  const latents = tidy(() => noise().mul(sampler.initNoiseSigma));
  return { call: 0, latents, concat: null, keep: null, [Symbol.dispose]: () => {} };
}

/**
 * Begins at an image.
 * @param sampler with its timesteps set
 * @throws ConfigError where the strength leaves no step
 */
export function beginAtImage(
  { image, strength, inpainting }: StartImage,
  sampler: Sampler,
  steps: number,
  noise: NoiseSource,
): Beginning {
  const call = stepsLeftOut(steps, strength) * sampler.order;
  sampler.beginAt(call);
  const held = tidy(() => {
    const isNew = inpainting !== undefined && strength === 1;
    // A UNet that takes masks needs no image where all of its steps are done.
    const source = isNew && inpainting.rest !== null ? null : sampled(image, noise);
    const first = noise();
    const latents =
      isNew || source === null ? first.mul(sampler.initNoiseSigma) : sampler.addNoiseAt(call, source, first);
    if (inpainting === undefined) return { latents, source: null, first: null, concat: null };
    // Drawn also for a UNet that does not take it, as in diffusers: a sampler's draws come after it.
    const rest = sampled(inpainting.rest ?? image, noise);
    if (inpainting.rest === null) return { latents, source, first, concat: null };
    const rows = first.shape[0] as number;
    const concat = cat([inpainting.mask.expand(rows, -1, -1, -1), rest], 1);
    return { latents, source: null, first: null, concat };
  });
  const { latents, source, first, concat } = held;
  const keep = (after: Tensor, nextCall: number): Tensor =>
    tidy(() => {
      const { mask } = inpainting as Inpainting;
      const isLast = nextCall === sampler.timesteps.length;
      const kept = isLast
        ? (source as Tensor)
        : sampler.addNoiseAt(nextCall, source as Tensor, first as Tensor);
      return mask.neg().add(1).mul(kept).add(mask.mul(after));
    });
  return {
    ...{ call, latents, concat, keep: source === null ? null : keep },
    [Symbol.dispose]: () => {
      for (const one of [source, first, concat]) one?.dispose();
    },
  };
}

function sampled({ mean, std }: Latents, noise: NoiseSource): Tensor {
  return mean.add(std.mul(noise()));
}
