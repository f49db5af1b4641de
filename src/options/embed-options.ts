/** @file The options of encoding images once: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import { imageFit } from './generate-options.js';
import { path, targetOptions } from './options.js';
import { trainableKinds } from './train-options.js';

/** The endings of the files that torch.load reads. */
const torchEndings = /\.(ipadpt|pt|bin)$/;

export const embedOptionsSchema = z.strictObject({
  imageEncoder: path.describe('image encoder: folder in the transformers layout, or name on the Hub'),
  images: z.array(path).min(1, 'must not be empty').describe('image files to encode'),
  imageFit,
  format: z
    .enum(['ip-adapter', 'diffusers', 'comfyui'])
    .default('ip-adapter')
    .describe(
      'whose file to write: ours, for every kind of adapter, or for --kind that of diffusers (ip_adapter_image_embeds) or of ComfyUI (Load IPAdapter Embeds)',
    ),
  kind: z
    .enum(trainableKinds)
    .optional()
    .describe('kind of adapter that reads the file of another --format: plus, base or full-face'),
  out: path
    .refine(
      (file) => file.endsWith('.safetensors') || torchEndings.test(file),
      'must end in .safetensors, or in .ipadpt, .pt or .bin for another --format',
    )
    .describe('file to write, ending in .safetensors; in .ipadpt, .pt or .bin for another --format'),
  ...targetOptions,
});
