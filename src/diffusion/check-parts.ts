/** @file Checks from the small files alone that the parts of a model go together, before anything is read, computed or written. */
import { ConfigError } from '../base/errors.js';
import type { UNet2DConditionConfig } from '../models/unet/unet-config.js';
import type { ModelParts } from './model-parts.js';

/** The sizes of SDXL's time ids: six numbers for each image; the refiner has five. */
const [timeIds, refinerTimeIds] = [6, 5];

/** @throws ConfigError where the UNet is not one that turns text into images, or the other parts are not its own */
export function assertPartsFit(parts: ModelParts): void {
  const unet = parts.unetConfig();
  assertLatentsFit(parts, unet);
  if (unet.textTime !== null) assertPooledTextFits(parts, unet, unet.textTime);
  assertTextFits(parts, unet);
}

/** Returns whether a UNet takes a mask and the latents of an image after the noisy latents. */
export function takesMask(
  { inChannels, outChannels }: Pick<UNet2DConditionConfig, 'inChannels' | 'outChannels'>,
  latentChannels: number,
): boolean {
  return outChannels === latentChannels && inChannels === 2 * latentChannels + 1;
}

function assertLatentsFit(parts: ModelParts, unet: UNet2DConditionConfig): void {
  const { inChannels, outChannels } = unet;
  const { latentChannels } = parts.vaeConfig();
  if (takesMask(unet, latentChannels)) return;
  if (inChannels !== outChannels)
    throw new ConfigError(
      `The UNet of ${parts.path} takes ${inChannels} channels and gives ${outChannels}, as for editing by instructions; take a text-to-image model, whose UNet takes ${outChannels}, or one for inpainting, whose UNet takes ${2 * outChannels + 1}`,
    );
  if (latentChannels !== inChannels)
    throw new ConfigError(
      `The UNet of ${parts.path} takes latents of ${inChannels} channels, and the VAE (${parts.pathOf('vae')}) has latents of ${latentChannels}; take the VAE that the UNet was trained with`,
    );
}

function assertTextFits(parts: ModelParts, unet: UNet2DConditionConfig): void {
  const encoders =
    unet.textTime === null ? (['text_encoder'] as const) : (['text_encoder', 'text_encoder_2'] as const);
  const widths = encoders.map((part) => parts.textEncoderSizes(part).hiddenSize);
  const width = widths.reduce((sum, one) => sum + one, 0);
  const attended = attendedWidths(unet).find((one) => one !== width);
  if (attended === undefined) return;
  const [plural, verb] = encoders.length === 1 ? ['', 'gives'] : ['s', 'give'];
  const paths = encoders.map((part) => parts.pathOf(part)).join(' and ');
  throw new ConfigError(
    `The UNet of ${parts.path} attends to text ${attended} wide, and the text encoder${plural} (${paths}) ${verb} text ${widths.join(' + ')} wide; take the text encoder${plural} that the UNet was trained with`,
  );
}

/** Returns the widths of text that the blocks with attention take. */
function attendedWidths(unet: UNet2DConditionConfig): number[] {
  const { crossAttentionDim, downHasAttention, upHasAttention } = unet;
  const last = crossAttentionDim.length - 1;
  return crossAttentionDim.filter((_, i) => downHasAttention[i] || upHasAttention[last - i] || i === last);
}

function assertPooledTextFits(
  parts: ModelParts,
  unet: UNet2DConditionConfig,
  { inDim, timeDim }: NonNullable<UNet2DConditionConfig['textTime']>,
): void {
  const { hiddenSize, projectionDim, lacksProjection, where } = parts.textEncoderSizes('text_encoder_2');
  if (lacksProjection)
    throw new ConfigError(
      `Expected a CLIPTextModelWithProjection as the second text encoder of SDXL but ${where} is a CLIPTextModel's; take the second text encoder that the UNet was trained with`,
    );
  // The refiner has the second text encoder alone.
  const isAlone = attendedWidths(unet).every((one) => one === hiddenSize);
  if (isAlone && inDim === projectionDim + refinerTimeIds * timeDim)
    throw new ConfigError(
      `${parts.path} is the refiner of SDXL, which takes an aesthetic score and has no IP-Adapters; take the base model`,
    );
  const width = projectionDim + timeIds * timeDim;
  if (inDim !== width)
    throw new ConfigError(
      `The UNet of ${parts.path} takes the text's embedding and ${timeIds} sizes in ${inDim} numbers, and the second text encoder (${where}) gives ${projectionDim} + ${timeIds} × ${timeDim} = ${width}; take the second text encoder that the UNet was trained with`,
    );
}
