import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { maxDifference, readGolden, SAMPLE_IMAGES } from '../../test/data-support.js';
import { floatsOf } from '../../test/pixel-floats.js';
import { ConfigError } from '../base/errors.js';
import { readImage } from './image.js';
import { ImageProcessor } from './image-processor.js';
import { fileSource } from './image-source.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-clip-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const FILE = 'preprocessor_config.json';
const write = (config: unknown) => writeFileSync(join(dir, FILE), JSON.stringify(config));

/** What transformers saves for OpenAI's CLIP. */
const SAVED = {
  crop_size: { height: 224, width: 224 },
  do_center_crop: true,
  do_convert_rgb: true,
  do_normalize: true,
  do_rescale: true,
  do_resize: true,
  feature_extractor_type: 'CLIPFeatureExtractor',
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_processor_type: 'CLIPImageProcessor',
  image_std: [0.26862954, 0.26130258, 0.27577711],
  resample: 3,
  rescale_factor: 0.00392156862745098,
  size: { shortest_edge: 224 },
};

const white = { data: new Uint8Array(4 * 4 * 3).fill(255), width: 4, height: 4 };

describe('ImageProcessor', () => {
  it.each(['edge_cmyk.jpg', 'edge_exif6_16x9.jpg'])(
    'equals transformers on the decoded pixels of %s',
    (file) => {
      const { data, shape } = readGolden('preprocess/train_transform_u8.safetensors').get(
        `${file}.decoded_rgb`,
      )!;
      const image = { data: data as Uint8Array, height: shape[0]!, width: shape[1]! };
      const expected = readGolden('preprocess/clip_u8.safetensors').get(`${file}.224`)!;
      expect(maxDifference(ImageProcessor.load(dir, 224).crop(image).data, expected.data)).toBe(0);
    },
  );

  it('has the same settings without a file, with the one transformers saves, and with the older form', () => {
    const pixels = () => floatsOf(ImageProcessor.load(dir, 224).pixelValues([white]));
    const without = pixels();
    write(SAVED);
    expect(pixels()).toEqual(without);
    write({ ...SAVED, size: 224, crop_size: 224 });
    expect(pixels()).toEqual(without);
  });

  it('normalises with the mean and std of CLIP', () => {
    const values = floatsOf(ImageProcessor.load(dir, 2).pixelValues([white]));
    const expected = [0, 1, 2].flatMap((c) =>
      new Array(4).fill((1 - SAVED.image_mean[c]!) / SAVED.image_std[c]!),
    );
    expect(maxDifference(values, expected)).toBeLessThan(1e-6);
  });

  it('floors the crop offset', () => {
    // 4 × 1 → crop 1 × 1 at floor(1.5) = 1, where the training crop would round to 2.
    const data = Uint8Array.from([0, 0, 0, 10, 10, 10, 20, 20, 20, 30, 30, 30]);
    expect([...ImageProcessor.load(dir, 1).crop({ data, width: 4, height: 1 }).data]).toEqual([10, 10, 10]);
  });

  it('pads with black where the image is smaller than the crop', () => {
    write({ size: { shortest_edge: 2 }, crop_size: 5 });
    const { data, width, height } = ImageProcessor.load(dir, 5).crop(white);
    expect([width, height]).toEqual([5, 5]);
    // Offset floor((2 - 5) / 2) = -2: two black lines before the image, one after.
    const lit = Array.from({ length: 25 }, (_, i) => data[3 * i]! > 0);
    expect(lit.map((on, i) => (on ? [i % 5, Math.floor(i / 5)] : null)).filter(Boolean)).toEqual([
      [2, 2],
      [3, 2],
      [2, 3],
      [3, 3],
    ]);
  });

  it.each([
    [{ do_center_crop: false }, 'do_center_crop'],
    [{ resample: 1 }, 'resample'],
    [{ size: { height: 224, width: 224 } }, 'size'],
    [{ crop_size: { height: 224, width: 200 } }, 'crop_size'],
    [{ crop_size: 336 }, 'crop_size'],
    [{ image_mean: [0.5] }, 'image_mean'],
    [{ image_std: [1, 0, 1] }, 'image_std'],
  ])('refuses %j, naming key and file', (change, key) => {
    write({ ...SAVED, ...change });
    const load = () => ImageProcessor.load(dir, 224);
    expect(load).toThrow(ConfigError);
    expect(load).toThrow(new RegExp(`Expected .*${key}.*${FILE}`));
  });

  it('refuses a broken file', () => {
    writeFileSync(join(dir, FILE), '{');
    expect(() => ImageProcessor.load(dir, 224)).toThrow(ConfigError);
    write([1]);
    expect(() => ImageProcessor.load(dir, 224)).toThrow(/Expected a JSON object in .* but received \[1\]/);
  });
});

describe.skipIf(SAMPLE_IMAGES === null)('CLIP pixels of the sample images (../shared/images)', () => {
  it.each([...readGolden('preprocess/clip_u8.safetensors')])('%s', async (name, expected) => {
    const image = await readImage(fileSource(join(SAMPLE_IMAGES!, name.replace(/\.224$/, ''))));
    const crop = ImageProcessor.load(dir, 224).crop(image);
    expect(maxDifference(crop.data, expected.data)).toBe(0);
  });

  it('gives the floats of transformers', async () => {
    for (const [name, expected] of readGolden('preprocess/float_samples.safetensors')) {
      const file = /^clip\.(.*)\.corner32$/.exec(name)?.[1];
      if (file === undefined) continue;
      const image = await readImage(fileSource(join(SAMPLE_IMAGES!, file)));
      const values = floatsOf(ImageProcessor.load(dir, 224).pixelValues([image]));
      const corner = expected.data.map((_, i) => {
        const [c, y, x] = [Math.floor(i / 1024), Math.floor(i / 32) % 32, i % 32];
        return values[(c * 224 + y) * 224 + x]!;
      });
      expect(maxDifference(corner, expected.data), name).toBeLessThan(1e-6);
    }
  });
});
