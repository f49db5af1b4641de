import { expect, it } from 'vitest';
import { warningsFor } from './warnings.js';

const options = { resolution: 64, batchSize: 4, gradientAccumulationSteps: 1, buckets: false };

it('says nothing of what is usual', () => {
  expect(warningsFor(options, 64, 4)).toEqual([]);
});

it("names a resolution that is not the model's, and a step larger than the dataset", () => {
  expect(warningsFor({ ...options, resolution: 512 }, 64, 4)).toEqual([
    '--resolution is 512, but the model was trained on images of 64 pixels: --resolution 64 is what it does best',
  ]);
  expect(warningsFor(options, 64, 3)).toEqual([
    'A step takes 4 rows (--batch-size 4), but the dataset has 3: every epoch is one step of 3 rows',
  ]);
  expect(warningsFor({ ...options, gradientAccumulationSteps: 2 }, 64, 7)).toEqual([
    expect.stringContaining(
      'A step takes 8 rows (--batch-size 4 × --gradient-accumulation-steps 2), but the dataset has 7',
    ),
  ]);
});
