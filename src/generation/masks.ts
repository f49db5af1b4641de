/** @file Masks from images: white is 1, black is 0, edges may be soft. */
import { ConfigError } from '../base/errors.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { type Tensor, tensor } from '../torch/index.js';
import { isFeaturesFile } from './embedding-files.js';
import type { ImageSource } from './image-prompt.js';

/**
 * Returns the brightness of an image, [1, height, width], 0 … 1, float32: Pillow's conversion to 'L' (ITU-R 601-2), as in
 * diffusers' `IPAdapterMaskProcessor`, but neither resized nor rounded to 0 and 1.
 * @throws ConfigError where it is black everywhere; ImageError where it cannot be read
 */
export async function loadMask(source: ImageSource): Promise<Tensor> {
  const name = typeof source === 'string' ? source : 'an image in memory';
  if (isFeaturesFile(source))
    throw new ConfigError(`--masks (masks) has ${name}, which holds embeddings; a mask is an image`);
  const { data, width, height } = typeof source === 'string' ? await readImage(fileSource(source)) : source;
  const values = Float32Array.from({ length: width * height }, (_, i) => {
    const [red = 0, green = 0, blue = 0] = data.subarray(i * 3, i * 3 + 3);
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16) / 255;
  });
  if (!values.some((value) => value > 0))
    throw new ConfigError(
      `--masks (masks) has ${name}, which is black everywhere, so that the references would not count at all; a mask is white where they act`,
    );
  return tensor(values, [1, height, width]);
}
