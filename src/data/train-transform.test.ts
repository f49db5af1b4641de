import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { readPicture } from './image.js';
import { fileSource } from './image-source.js';
import { writePlanar } from './pixels.js';
import { maxDifference, PICTURES, readGolden } from './test-support.js';
import { shortestEdge, TRAIN_PIXELS, trainCrop } from './train-transform.js';

const golden = readGolden('preprocess/train_transform_u8.safetensors');
const results = [...golden].filter(([name]) => /\.\d+$/.test(name));

describe('trainCrop', () => {
  it.each(['edge_cmyk.jpg', 'edge_exif6_16x9.jpg'])(
    'equals torchvision on the decoded pixels of %s',
    (file) => {
      const { data, shape } = golden.get(`${file}.decoded_rgb`)!;
      const image = { data: data as Uint8Array, height: shape[0]!, width: shape[1]! };
      expect(maxDifference(trainCrop(image, 64).data, golden.get(`${file}.64`)!.data)).toBe(0);
    },
  );

  it('rounds the crop offset half to even, as Python does', () => {
    // 1 × 1 crops from pictures one pixel high: offsets 0.5 → 0, 1 → 1, 1.5 → 2, 2.5 → 2.
    const picked = [2, 3, 4, 6].map((width) => {
      const data = Uint8Array.from({ length: width * 3 }, (_, i) => Math.floor(i / 3));
      return trainCrop({ data, width, height: 1 }, 1).data[0];
    });
    expect(picked).toEqual([0, 1, 2, 2]);
  });

  it('cuts the longer side to a whole number', () => {
    expect(shortestEdge({ data: new Uint8Array(), width: 160, height: 120 }, 64)).toEqual({
      width: 85,
      height: 64,
    });
    expect(shortestEdge({ data: new Uint8Array(), width: 161, height: 233 }, 64)).toEqual({
      width: 64,
      height: 92,
    });
    expect(shortestEdge({ data: new Uint8Array(), width: 20, height: 30 }, 64)).toEqual({
      width: 64,
      height: 96,
    });
  });

  it('spreads bytes over [-1, 1]', () => {
    const out = new Float32Array(6).fill(9);
    writePlanar({ data: Uint8Array.from([0, 255, 51]), width: 1, height: 1 }, TRAIN_PIXELS, out, 2);
    expect([...out]).toEqual([9, 9, -1, 1, Math.fround((Math.fround(0.2) - 0.5) / 0.5), 9]);
  });
});

describe.skipIf(PICTURES === null)('the train transform on the sample pictures (../shared/images)', () => {
  it.each(results)('%s', async (name, expected) => {
    const [, file, size] = /^(.*)\.(\d+)$/.exec(name)!;
    const image = await readPicture(fileSource(join(PICTURES!, file!)));
    expect(maxDifference(trainCrop(image, Number(size)).data, expected.data)).toBe(0);
  });

  it('gives the floats of torchvision', async () => {
    for (const [name, expected] of readGolden('preprocess/float_samples.safetensors')) {
      const file = /^train\.(.*\.png)\.64$/.exec(name)?.[1];
      if (file === undefined) continue;
      const values = new Float32Array(3 * 64 * 64);
      writePlanar(
        trainCrop(await readPicture(fileSource(join(PICTURES!, file))), 64),
        TRAIN_PIXELS,
        values,
        0,
      );
      expect(maxDifference(values, expected.data), name).toBe(0);
    }
  });
});
