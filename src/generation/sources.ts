/**
 * @file The images that others are made from, from files to tensors: the one to start from with its mask, and those of ControlNets.
 * Sizes and values are those of diffusers' VaeImageProcessor.
 */
import { ConfigError } from '../base/errors.js';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { resizeAndCrop } from '../images/resample.js';
import type { ResolvedDrawOptions } from '../options/generate-options.js';
import { sourceFault, type sourceOptions, strengthOf } from '../options/source-options.js';
import { type Device, releasePages, type Tensor, tensor, tidy } from '../torch/index.js';
import type { Control } from './controls.js';
import type { Prompts } from './denoise.js';
import type { PipelineModels } from './pipeline-models.js';
import { type Mask, startImage } from './start-image.js';

type SourceOptions = Pick<ResolvedDrawOptions, keyof typeof sourceOptions | 'steps'>;

/** Images in memory, with their names for messages. */
export interface Sources {
  init: NamedImage | null;
  mask: NamedImage | null;
  controls: readonly NamedImage[];
}

interface NamedImage {
  name: string;
  image: RgbImage;
}

/** Returns the scale and the range of a ControlNet by its number: one of each is for all. */
export function controlSettings(
  { controlnetScale = [1], controlRange = [0, 1] }: Pick<SourceOptions, 'controlnetScale' | 'controlRange'>,
  i: number,
): { scale: number; range: readonly [number, number] } {
  const first = controlRange.length === 2 ? 0 : 2 * i;
  return {
    scale: controlnetScale[controlnetScale.length === 1 ? 0 : i] as number,
    range: controlRange.slice(first, first + 2) as [number, number],
  };
}

/**
 * Checks options against each other, before any model is loaded.
 * @param controlnets the number of ControlNets
 * @throws ConfigError where one needs another, numbers differ, or the strength leaves no step
 */
export function assertSourceOptions(options: SourceOptions, controlnets: number): void {
  const fault = sourceFault(options, controlnets);
  if (fault !== undefined) throw new ConfigError(fault.message);
}

/**
 * Reads the images of the options.
 * @throws ImageError where a file cannot be read
 */
export async function readSources({
  initImage,
  maskImage,
  controlImage = [],
}: SourceOptions): Promise<Sources> {
  const read = async (source: string | RgbImage): Promise<NamedImage> =>
    typeof source === 'string'
      ? { name: source, image: await readImage(fileSource(source)) }
      : { name: 'an image in memory', image: source };
  const [init = null, mask = null, ...controls] = await Promise.all([
    initImage === undefined ? null : read(initImage),
    maskImage === undefined ? null : read(maskImage),
    ...controlImage.map(read),
  ]);
  return { init, mask, controls: controls as NamedImage[] };
}

/**
 * Returns the size of what is generated: as given, as the first source's, or as the model's images.
 * @throws ConfigError where a given side is no multiple of the pixels that a latent stands for, or the source is too small
 */
export function sizeOf(
  given: Pick<ResolvedDrawOptions, 'width' | 'height'>,
  { init, controls }: Sources,
  { imageSize, latents: { downsample } }: Pick<PipelineModels, 'imageSize' | 'latents'>,
): Size {
  const source = init ?? controls[0];
  const sideOf = (key: 'width' | 'height'): number => {
    const pixels = given[key];
    if (pixels !== undefined) {
      if (pixels % downsample === 0) return pixels;
      throw new ConfigError(
        `--${key} is ${pixels}; it must be a multiple of ${downsample}: a latent stands for ${downsample} × ${downsample} pixels`,
      );
    }
    if (source === undefined) return imageSize;
    const side = source.image[key] - (source.image[key] % downsample);
    if (side > 0) return side;
    throw new ConfigError(
      `The ${key} of ${source.name} is ${source.image[key]} pixels, and a latent stands for ${downsample} × ${downsample}; give a larger image, or --width and --height`,
    );
  };
  return { width: sideOf('width'), height: sideOf('height') };
}

/** Returns a message for each source whose size changes. */
export function resizeMessages({ init, mask, controls }: Sources, { width, height }: Size): string[] {
  return [init, mask, ...controls].flatMap((source) => {
    if (source === null || (source.image.width === width && source.image.height === height)) return [];
    return `${source.name} is ${source.image.width} × ${source.image.height} pixels, and is resized to ${width} × ${height}.`;
  });
}

/**
 * Does all that needs the VAE's encoder and the ControlNets' image embeddings. The result is to be given to `releaseTensors` after
 * use.
 * @throws ConfigError where a mask has nothing to change, the model needs one, or the VAE has no tiles
 */
export function encodeSources(
  {
    vae,
    takesMask,
    controlnets,
    device,
  }: Pick<PipelineModels, 'vae' | 'takesMask' | 'controlnets' | 'device'>,
  { init, mask, controls }: Sources,
  options: SourceOptions & Pick<ResolvedDrawOptions, 'vaeTiling'>,
  size: Size,
): Pick<Prompts, 'start' | 'controls'> {
  if (takesMask && (init === null || mask === null))
    throw new ConfigError(
      'This model is for inpainting: give --init-image (initImage) and --mask-image (maskImage), white where the image becomes new',
    );
  const { vaeTiling: tiling, guessMode } = options;
  if (tiling && !vae.canTile)
    throw new ConfigError(
      `--vae-tiling (vaeTiling) cannot cut tiles of ${vae.config.sampleSize} pixels, the sample_size of this VAE's config.json, which is too small; leave it out`,
    );
  const encoded = tidy(() => {
    const start =
      init &&
      startImage(
        vae,
        pixelsOf(init.image, size, device).mul(2).sub(1),
        strengthOf(options),
        mask && maskOf(mask, size),
        { takesMask, tiling },
      );
    const nets = controls.map(({ image }, i): Control => {
      const net = controlnets[i] as PipelineModels['controlnets'][number];
      return { net, condition: net.embed(pixelsOf(image, size, device)), ...controlSettings(options, i) };
    });
    return {
      ...(start !== null && { start }),
      ...(nets.length > 0 && { controls: { nets, guessMode } }),
    };
  });
  if (init !== null) releasePages(vae);
  return encoded;
}

/** Returns an image as [1, 3, height, width] in 0 … 1, resized as diffusers does. */
function pixelsOf(image: RgbImage, size: Size, device: Device): Tensor {
  const { data, width, height } = resized(image, size);
  return tidy(() =>
    tensor(Float32Array.from(data), [1, height, width, 3])
      .to(device)
      .div(255)
      .permute(0, 3, 1, 2)
      .contiguous(),
  );
}

/** Returns a mask as diffusers does: resized, then made grey as Pillow does, then cut at one half. */
function maskOf({ name, image }: NamedImage, size: Size): Mask {
  const { data, width, height } = resized(image, size);
  const values = Uint8Array.from({ length: width * height }, (_, i) => {
    const [red, green, blue] = data.subarray(3 * i, 3 * i + 3) as unknown as [number, number, number];
    const grey = (19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16;
    return grey / 255 < 0.5 ? 0 : 1;
  });
  if (values.includes(1)) return { values, width, height };
  throw new ConfigError(
    `Expected white in --mask-image (maskImage), where the image becomes new, but ${name} has none; a mask of which all is black changes nothing`,
  );
}

function resized(image: RgbImage, size: Size): RgbImage {
  if (image.width === size.width && image.height === size.height) return image;
  return resizeAndCrop(image, { ...size, crop: { left: 0, top: 0, ...size }, filter: 'lanczos' });
}
