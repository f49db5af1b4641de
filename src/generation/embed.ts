/** @file Encodes images once: `generate` takes the file in place of images, and then needs no image encoder. */

import { openImageEncoder } from '../adapters/image-encoder.js';
import { ConfigError } from '../base/errors.js';
import { assertCanWrite } from '../base/out-file.js';
import { type RunContext, withContext } from '../base/run-context.js';
import { downloadModels } from '../diffusion/download-models.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { embedOptionsSchema } from '../options/embed-options.js';
import type { EmbedOptions } from '../options/generate-types.js';
import { resolveOptions } from '../options/options.js';
import { setNumThreads, tidy } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';
import { allFeatures, isFeaturesFile, writeImageFeatures } from './image-prompt.js';

/**
 * Writes the features of images, a row for each, to one `.safetensors` file. It can be used with every adapter that was
 * trained with this encoder.
 * @throws ConfigError, CheckpointError where an option or the encoder is at fault; ImageError for an image; the signal's
 * reason where it ended a download
 */
export async function embed(options: EmbedOptions, context: RunContext = {}): Promise<void> {
  const { imageEncoder, images, imageFit, out, threads, ...device } = resolveOptions(
    embedOptionsSchema,
    options,
  );
  const saved = images.find(isFeaturesFile);
  if (saved !== undefined)
    throw new ConfigError(`images has ${saved}, which holds embeddings already; it must be image files`);
  assertCanWrite(out, '--out (out)');
  const target = resolveTarget(device);
  if (threads !== undefined) setNumThreads(threads);
  const loaded = await Promise.all(images.map((file) => readImage(fileSource(file))));
  await withContext(context, (guarded) => downloadModels({ imageEncoder }, guarded));
  using encoder = openImageEncoder(imageEncoder).load(target);
  tidy(() => writeImageFeatures(out, allFeatures(encoder, loaded, imageFit)));
}
