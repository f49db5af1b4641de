/** @file The options of images that others are made from: image-to-image, inpainting, ControlNet. */
import { z } from 'zod';
import { image } from './image-source.js';
import { flag, number, path } from './options.js';

const scale = number(0, 1e4);
const fraction = number(0, 1);

/** The ControlNets of a pipeline. */
export const controlnet = z
  .union([path.transform((one) => [one]), z.array(path).min(1, 'must name one ControlNet at least')], {
    error: 'must be a path, or a list of paths',
  })
  .optional()
  .describe('ControlNets: folders in the diffusers layout, .safetensors or .pth files, or names on the Hub');

/** What a call of a pipeline starts from and is controlled by. */
export const sourceOptions = {
  initImage: image
    .optional()
    .describe('image to start from (image-to-image); with a mask, the image to change a part of'),
  maskImage: image
    .optional()
    .describe('inpainting: white where the image becomes new, black where it stays; resized like the image'),
  strength: fraction
    .optional()
    .describe(
      'how far the image is changed: the share of the steps that are done, above 0 to 1; default: 0.8, with a mask 1',
    ),
  controlImage: z
    .union([image.transform((one) => [one]), z.array(image).min(1, 'must have one image at least')], {
      error: 'must be an image, or a list of images',
    })
    .optional()
    .describe(
      'conditioning images of the ControlNets, one for each, such as edges, poses or depth; used as they are',
    ),
  controlnetScale: z
    .union([scale.transform((one) => [one]), z.array(scale).min(1, 'must have one number at least')], {
      error: 'must be a number from 0 to 10,000, or a list of them',
    })
    .optional()
    .describe('strength of the ControlNets, one for all or for each: 0 none, 1 as trained; default: 1'),
  controlRange: z
    .array(fraction, 'must be a list of numbers')
    .refine(isRanges, 'must be pairs of start and end, none of which ends before it starts')
    .optional()
    .describe(
      'start and end of the steps in which the ControlNets act, as fractions, for all or for each; default: 0 1',
    ),
  guessMode: flag
    .default(false)
    .describe('ControlNets act on the prompt alone, not on the negative prompt, and recognise what they see'),
};

function isRanges(values: readonly number[]): boolean {
  return (
    values.length >= 2 &&
    values.length % 2 === 0 &&
    values.every((value, i) => i % 2 === 0 || value >= (values[i - 1] as number))
  );
}
