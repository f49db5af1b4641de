/** @file The options of images that others are made from: image-to-image, inpainting, ControlNet. */
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { image } from './image-source.js';
import { flag, number, path } from './options.js';

/** The strength of a ControlNet. */
export const controlnetScale = number(0, 1e4);
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
    .union(
      [
        controlnetScale.transform((one) => [one]),
        z.array(controlnetScale).min(1, 'must have one number at least'),
      ],
      {
        error: 'must be a number from 0 to 10,000, or a list of them',
      },
    )
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

/** Some of `sourceOptions`, resolved. */
interface Sources {
  initImage?: unknown;
  maskImage?: unknown;
  strength?: number | undefined;
  controlImage?: readonly unknown[] | undefined;
  controlnetScale?: readonly number[] | undefined;
  controlRange?: readonly number[] | undefined;
  guessMode: boolean;
  steps: number;
}

/** Returns the strength with its default. */
export function strengthOf({ strength, maskImage }: Pick<Sources, 'strength' | 'maskImage'>): number {
  return strength ?? (maskImage === undefined ? 0.8 : 1);
}

/**
 * Returns how many of the steps are left out at this strength.
 * @throws ConfigError where none would be left
 */
export function stepsLeftOut(steps: number, strength: number): number {
  const fault = strengthFault(steps, strength);
  if (fault !== undefined) throw new ConfigError(fault);
  return steps - Math.floor(steps * strength);
}

function strengthFault(steps: number, strength: number): string | undefined {
  if (Math.floor(steps * strength) >= 1) return undefined;
  return `--strength (strength) of ${strength} leaves none of ${steps} steps; give at least ${Math.ceil(1e4 / steps) / 1e4}, or more --steps`;
}

/**
 * Returns what is wrong with options beside each other, and the name of the option at fault: one needs another, numbers differ, or
 * the strength leaves no step. Undefined where nothing is wrong.
 * @param controlnets the number of ControlNets
 */
export function sourceFault(
  options: Sources,
  controlnets: number,
): { key: keyof typeof sourceOptions; message: string } | undefined {
  const { initImage, maskImage, strength, controlImage = [], steps } = options;
  if (initImage === undefined && maskImage !== undefined)
    return {
      key: 'maskImage',
      message: '--mask-image (maskImage) needs --init-image (initImage), the image to change',
    };
  if (initImage === undefined && strength !== undefined)
    return {
      key: 'strength',
      message: '--strength (strength) is for --init-image (initImage), the image to start from',
    };
  const left = initImage === undefined ? undefined : strengthFault(steps, strengthOf(options));
  if (left !== undefined) return { key: 'strength', message: left };
  if (controlImage.length !== controlnets)
    return {
      key: 'controlImage',
      message:
        controlnets === 0
          ? '--control-image (controlImage) needs --controlnet (controlnet), the ControlNet that reads it'
          : `--control-image (controlImage) has ${controlImage.length} images for ${controlnets} ControlNets of --controlnet (controlnet); give one for each`,
    };
  const { controlnetScale: scales, controlRange, guessMode } = options;
  const counts = [
    ['controlnetScale', '--controlnet-scale (controlnetScale)', scales?.length, 'values'],
    ['controlRange', '--control-range (controlRange)', controlRange && controlRange.length / 2, 'pairs'],
  ] as const;
  for (const [key, name, count, what] of counts) {
    if (count === undefined || count === 1 || count === controlnets) continue;
    return {
      key,
      message: `${name} has ${count} ${what} for ${controlnets} ControlNets; give one, or one for each`,
    };
  }
  const alone = { controlnetScale: scales, controlRange, guessMode: guessMode || undefined };
  const keys = Object.keys(alone) as (keyof typeof alone)[];
  const unused = keys.find((key) => alone[key] !== undefined);
  if (controlnets > 0 || unused === undefined) return undefined;
  return {
    key: unused,
    message: `${unused} is for ControlNets, and there is none; give --controlnet (controlnet), or leave it out`,
  };
}
