/** @file The options of encoding images once: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import { imageFit } from './generate-options.js';
import { path, targetOptions } from './options.js';

export const embedOptionsSchema = z.strictObject({
  imageEncoder: path.describe('CLIP image encoder: folder in the transformers layout, or name on the Hub'),
  images: z.array(path).min(1, 'must not be empty').describe('image files to encode'),
  imageFit,
  out: path
    .refine((file) => file.endsWith('.safetensors'), 'must end in .safetensors')
    .describe('file to write, ending in .safetensors'),
  ...targetOptions,
});
