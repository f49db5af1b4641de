/**
 * @file Noise as a negative image: it tells guidance what a picture without content is like (ComfyUI_IPAdapter_plus
 * IPAdapterPlus.py, IPAdapterNoise).
 */
import type { RgbImage } from '../base/rgb-image.js';
import { resizeAndCrop } from '../images/resample.js';
import { Generator, rand, randn, type Tensor, tensor, tidy } from '../torch/index.js';

export interface NoiseImageOptions {
  /** fade: a mixture with the image; dissolve: some values replaced; gaussian: added. */
  type: 'fade' | 'dissolve' | 'gaussian';
  /** 0 … 1 */
  strength: number;
  /** Default: black. */
  image?: RgbImage | undefined;
}

const side = 224;

/** Returns an image of noise, 224 × 224. The same image gives the same noise: its sum is the seed, as in ComfyUI. */
export function noiseImage({ type, strength, image }: NoiseImageOptions): RgbImage {
  return tidy(() => {
    const shape = [1, side, side, 3];
    const start = tensor(image === undefined ? new Uint8Array(side * side * 3) : square(image), shape)
      .to('float32')
      .div(255);
    const generator = new Generator('cpu', Math.trunc(start.sum().item()) % 1_000_000_007);
    const uniform = (): Tensor => rand(shape, { generator });
    const noisy = { fade, dissolve, gaussian }[type]();
    return {
      data: new Uint8Array(noisy.clamp(0, 1).mul(255).add(0.5).to('uint8').toBytes()),
      width: side,
      height: side,
    };

    function fade(): Tensor {
      return start.mul(1 - strength).add(uniform().mul(strength));
    }
    function dissolve(): Tensor {
      const chosen = tensor(
        uniform()
          .toNumbers()
          .map((value) => (value < strength ? 1 : 0)),
        shape,
      );
      return start.sub(start.mul(chosen)).add(uniform().mul(chosen));
    }
    function gaussian(): Tensor {
      return start.add(randn(shape, { generator }).mul(strength));
    }
  });
}

/** Returns the middle of an image, resized. */
function square(image: RgbImage): Uint8Array {
  const edge = Math.min(image.width, image.height);
  const [width, height] = [image.width, image.height].map((size) => Math.round((size * side) / edge)) as [
    number,
    number,
  ];
  const [left, top] = [Math.floor((width - side) / 2), Math.floor((height - side) / 2)];
  const crop = { left, top, width: side, height: side };
  return resizeAndCrop(image, { width, height, crop, filter: 'bicubic' }).data;
}
