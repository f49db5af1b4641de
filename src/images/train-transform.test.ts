import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { maxDifference, readGolden, SAMPLE_IMAGES } from '../../test/data-support.js';
import { floatsOf } from '../../test/pixel-floats.js';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { op, type Tensor, tensor, tidy } from '../torch/index.js';
import { readImage } from './image.js';
import { fileSource } from './image-source.js';
import { PixelValues } from './pixels.js';
import { shortestEdge, TRAIN_PIXELS, trainCrop } from './train-transform.js';

const golden = readGolden('preprocess/train_transform_u8.safetensors');
const square = (side: number) => ({ width: side, height: side });
const results = [...golden].filter(([name]) => /\.\d+$/.test(name));

describe('trainCrop', () => {
  it.each(['edge_cmyk.jpg', 'edge_exif6_16x9.jpg'])(
    'equals torchvision on the decoded pixels of %s',
    (file) => {
      const { data, shape } = golden.get(`${file}.decoded_rgb`)!;
      const image = { data: data as Uint8Array, height: shape[0]!, width: shape[1]! };
      expect(maxDifference(trainCrop(image, square(64)).data, golden.get(`${file}.64`)!.data)).toBe(0);
    },
  );

  it('rounds the crop offset half to even, as Python does', () => {
    // 1 × 1 crops from images one pixel high: offsets 0.5 → 0, 1 → 1, 1.5 → 2, 2.5 → 2.
    const picked = [2, 3, 4, 6].map((width) => {
      const data = Uint8Array.from({ length: width * 3 }, (_, i) => Math.floor(i / 3));
      return trainCrop({ data, width, height: 1 }, square(1)).data[0];
    });
    expect(picked).toEqual([0, 1, 2, 2]);
  });

  it('cuts the longer side to a whole number', () => {
    expect(shortestEdge({ width: 160, height: 120 }, 64)).toEqual({
      width: 85,
      height: 64,
    });
    expect(shortestEdge({ width: 161, height: 233 }, 64)).toEqual({
      width: 64,
      height: 92,
    });
    expect(shortestEdge({ width: 20, height: 30 }, 64)).toEqual({
      width: 64,
      height: 96,
    });
  });

  it('spreads bytes over [-1, 1]', () => {
    const image = { data: Uint8Array.from([0, 255, 51, 255, 0, 0]), width: 2, height: 1 };
    const values = new PixelValues([image, null], TRAIN_PIXELS, { width: 2, height: 1 });
    expect(values.shape).toEqual([2, 3, 1, 2]);
    const blue = Math.fround((Math.fround(0.2) - 0.5) / 0.5);
    expect([...floatsOf(values)]).toEqual([-1, 1, 1, -1, blue, -1, 0, 0, 0, 0, 0, 0]);
  });
});

const resizeAntialiased = op(
  'aten::_upsample_bilinear2d_aa(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor',
);

describe('the crop of a bucket', () => {
  /** An image with a different slope in every channel and direction, and an edge. */
  function drawn(width: number, height: number): RgbImage {
    const data = new Uint8Array(3 * width * height);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < width; x++)
        data.set(
          [(255 * x) / width, (255 * y) / height, (x * 7 + y * 3) % 32 < 16 ? 40 : 220],
          3 * (y * width + x),
        );
    return { data, width, height };
  }

  /** By ATen's antialiased operator, on the whole image: torchvision's way for tensors. */
  function byAten(image: RgbImage, bucket: Size, resized: Size, left: number, top: number): Tensor {
    const pixels = tensor(image.data, [image.height, image.width, 3])
      .permute(2, 0, 1)
      .unsqueeze(0)
      .to('float32');
    return resizeAntialiased(pixels, [resized.height, resized.width], false)
      .slice(2, top, top + bucket.height)
      .slice(3, left, left + bucket.width)
      .squeeze(0)
      .permute(1, 2, 0);
  }

  it.each([
    // Wider than its bucket: 150 × 90 to 80 × 48 exactly.
    [150, 90, 80, 48, { width: 80, height: 48 }, 0, 0],
    // 161 × 75 covers 64 × 32 with 68.69 → 68 × 32, offset 2.
    [161, 75, 64, 32, { width: 68, height: 32 }, 2, 0],
    // 101 × 170 covers 48 × 80 with 48 × 80.79 → 80.
    [101, 170, 48, 80, { width: 48, height: 80 }, 0, 0],
    // Taller than its bucket: 40 × 97 covers 32 × 64 with 32 × 77.6 → 77, offset 6.5 → 6; it is enlarged in neither.
    [40, 97, 32, 64, { width: 32, height: 77 }, 0, 6],
    // Enlarged: 30 × 21 covers 80 × 48 with 80 × 56, offset 4.
    [30, 21, 80, 48, { width: 80, height: 56 }, 0, 4],
  ])('of %i × %i to %i × %i equals ATen’s resizing, within the rounding between two passes', (...example) => {
    const [width, height, bucketWidth, bucketHeight, resized, left, top] = example;
    const image = drawn(width, height);
    const bucket = { width: bucketWidth, height: bucketHeight };
    const crop = trainCrop(image, bucket);
    expect([crop.width, crop.height]).toEqual([bucketWidth, bucketHeight]);
    const expected = tidy(() => byAten(image, bucket, resized, left, top).flatten().toNumbers());
    expect(maxDifference(crop.data, expected)).toBeLessThan(1.01);
  });
});

describe.skipIf(SAMPLE_IMAGES === null)('the train transform on the sample images (../shared/images)', () => {
  it.each(results)('%s', async (name, expected) => {
    const [, file, size] = /^(.*)\.(\d+)$/.exec(name)!;
    const image = await readImage(fileSource(join(SAMPLE_IMAGES!, file!)));
    expect(maxDifference(trainCrop(image, square(Number(size))).data, expected.data)).toBe(0);
  });

  it('gives the floats of torchvision', async () => {
    for (const [name, expected] of readGolden('preprocess/float_samples.safetensors')) {
      const file = /^train\.(.*\.png)\.64$/.exec(name)?.[1];
      if (file === undefined) continue;
      const image = await readImage(fileSource(join(SAMPLE_IMAGES!, file)));
      const crop = trainCrop(image, square(64));
      const values = floatsOf(new PixelValues([crop], TRAIN_PIXELS, crop));
      expect(maxDifference(values, expected.data), name).toBe(0);
    }
  });
});
