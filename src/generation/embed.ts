/** @file Encodes images once: `generate` takes the file in place of images, and then needs no image encoder. */

import { setImmediate } from 'node:timers/promises';
import { openImageEncoder } from '../adapters/image-encoder.js';
import { kinds } from '../adapters/kinds.js';
import { ConfigError } from '../base/errors.js';
import { assertCanWrite } from '../base/out-file.js';
import { type RunContext, withContext } from '../base/run-context.js';
import { downloadModels } from '../diffusion/download-models.js';
import { readImage, readImageSize } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { embedOptionsSchema } from '../options/embed-options.js';
import type { EmbedOptions } from '../options/generate-types.js';
import { resolveOptions } from '../options/options.js';
import { cat, setNumThreads, tensorsOf, tidy, zipTensors } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';
import { isFeaturesFile, writeImageFeatures, writePeerFeatures } from './embedding-files.js';
import { everyFeature, zeroPixelFeatures } from './image-prompt.js';

/**
 * Writes the features of images, a row for each, to one file. A `.safetensors` file can be used with every adapter that was
 * trained with this encoder; those for diffusers and ComfyUI are for one kind. One image is in memory at a time.
 * @throws ConfigError, CheckpointError where an option or the encoder is at fault; ImageError for an image; the signal's
 * reason where it was aborted
 */
export async function embed(options: EmbedOptions, context: RunContext = {}): Promise<void> {
  const { imageEncoder, images, imageFit, format, kind, out, threads, ...device } = resolveOptions(
    embedOptionsSchema,
    options,
  );
  const saved = images.find(isFeaturesFile);
  if (saved !== undefined)
    throw new ConfigError(`images has ${saved}, which holds embeddings already; it must be image files`);
  if ((format === 'ip-adapter') !== out.endsWith('.safetensors'))
    throw new ConfigError(
      `--out (out) is ${out}; for --format ${format} it must end in ${format === 'ip-adapter' ? '.safetensors' : '.ipadpt, .pt or .bin'}`,
    );
  const read = kinds.find(({ name }) => name === kind);
  if (format !== 'ip-adapter' && read === undefined)
    throw new ConfigError(
      `--kind (kind) is required for --format ${format}, whose files are for one kind of adapter: plus, base or full-face`,
    );
  assertCanWrite(out, '--out (out)');
  const target = resolveTarget(device);
  if (threads !== undefined) setNumThreads(threads);
  // A file that is no image is told now, and not after the hours of those before it.
  for (const file of images) await readImageSize(fileSource(file));
  await withContext(context, async (guarded) => {
    await downloadModels({ imageEncoder }, guarded);
    using encoder = openImageEncoder(imageEncoder).load(target);
    const rows: ReturnType<typeof everyFeature>[] = [];
    using _ = {
      [Symbol.dispose]: () => {
        for (const row of tensorsOf(rows)) row.dispose();
      },
    };
    for (const file of images) {
      rows.push(everyFeature(encoder, await readImage(fileSource(file)), imageFit));
      guarded.emit({ type: 'progress', done: rows.length, total: images.length });
      // Yield, so that an abort is noticed: the engine holds the thread for a whole image.
      await setImmediate();
      guarded.signal.throwIfAborted();
    }
    tidy(() => {
      const features = zipTensors(rows as [(typeof rows)[0], ...typeof rows], (column) => cat(column));
      const zeroHiddenStates = zeroPixelFeatures(encoder).to('cpu');
      if (format === 'ip-adapter' || read === undefined)
        writeImageFeatures(out, { ...features, zeroHiddenStates });
      else if (read.feature === 'tokens')
        writePeerFeatures(out, format, features.hiddenStates, zeroHiddenStates);
      else writePeerFeatures(out, format, features.embeddings, features.embeddings.slice(0, 0, 1).mul(0));
    });
  });
}
