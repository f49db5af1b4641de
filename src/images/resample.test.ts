import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { RgbImage } from '../base/rgb-image.js';
import { type ResampleFilter, resizeAndCrop } from './resample.js';

/** An image whose channels hold `grey`, row-major. */
function grey(width: number, height: number, bytes: number[]): RgbImage {
  return { width, height, data: Uint8Array.from(bytes.flatMap((byte) => [byte, byte, byte])) };
}

/** The red channel of an image. */
function red(image: RgbImage): number[] {
  return Array.from({ length: image.width * image.height }, (_, i) => image.data[3 * i]!);
}

function resize(image: RgbImage, width: number, height: number, filter: ResampleFilter): RgbImage {
  return resizeAndCrop(image, { width, height, crop: { left: 0, top: 0, width, height }, filter });
}

describe('resizeAndCrop', () => {
  it('averages with the widened triangle when it shrinks by two', () => {
    // Support 2 around centres 1 and 3; taps 0.25 … in units of the scale: weights 3/4, 3/4, 1/4 (edge cut off) → /1.75.
    // (3·0 + 3·100 + 1·200) / 7 = 71.43; mirrored on the other side (1·100 + 3·200 + 3·40) / 7 = 117.14.
    expect(red(resize(grey(4, 1, [0, 100, 200, 40]), 2, 1, 'bilinear'))).toEqual([71, 117]);
  });

  it('interpolates between neighbours when it enlarges', () => {
    // Output centres at 0.25, 0.75, 1.25, 1.75 of inputs centred at 0.5 and 1.5; the ends repeat the edge.
    expect(red(resize(grey(2, 1, [0, 200]), 4, 1, 'bilinear'))).toEqual([0, 50, 150, 200]);
    expect(red(resize(grey(1, 2, [0, 200]), 1, 4, 'bilinear'))).toEqual([0, 50, 150, 200]);
  });

  it('clips where the bicubic kernel overshoots', () => {
    const values = red(resize(grey(4, 1, [0, 0, 255, 255]), 8, 1, 'bicubic'));
    expect(values.slice(0, 3)).toEqual([0, 0, 0]);
    expect(values.slice(5)).toEqual([255, 255, 255]);
  });

  it('rounds between the passes, the horizontal one first', () => {
    // Rows: 0.5 → 1 and 1.5 → 2, then 1.5 → 2. Columns first: 0 and 2, then 1; and one rounding of the mean gives 1.
    expect(red(resize(grey(2, 2, [0, 1, 0, 3]), 1, 1, 'bilinear'))).toEqual([2]);
  });

  it("has Pillow's Lanczos filter, smaller and larger", () => {
    const bytes = [
      [255, 228, 34, 121, 243, 189, 6],
      [131, 102, 168, 82, 193, 187, 150],
      [81, 243, 205, 24, 236, 8, 246],
      [164, 231, 36, 210, 111, 172, 210],
      [174, 176, 218, 242, 169, 114, 205],
    ];
    const image = grey(7, 5, bytes.flat());
    // Image.fromarray(…).resize(size, Image.LANCZOS) of Pillow.
    expect(red(resize(image, 4, 3, 'lanczos'))).toEqual([
      191, 98, 192, 126, 156, 148, 121, 171, 183, 185, 166, 169,
    ]);
    expect(red(resize(image, 7, 3, 'lanczos'))).toEqual([
      202, 168, 99, 99, 228, 188, 62, 99, 206, 159, 70, 194, 83, 229, 174, 208, 134, 236, 142, 137, 208,
    ]);
    const larger = red(resize(image, 9, 8, 'lanczos'));
    expect(larger.slice(0, 18)).toEqual([
      255, 255, 134, 12, 123, 235, 252, 106, 0, 215, 191, 121, 72, 115, 198, 245, 148, 46,
    ]);
    expect(larger.slice(-7)).toEqual([201, 251, 239, 199, 115, 132, 213]);
  });

  it('leaves a constant image constant, at any size and with either filter', () => {
    const size = fc.integer({ min: 1, max: 40 });
    fc.assert(
      fc.property(size, size, size, size, fc.integer({ min: 0, max: 255 }), (w, h, newW, newH, byte) => {
        for (const filter of ['bilinear', 'bicubic'] as const) {
          const result = resize(grey(w, h, new Array(w * h).fill(byte)), newW, newH, filter);
          expect(new Set(result.data)).toEqual(new Set([byte]));
        }
      }),
      { numRuns: 50 },
    );
  });

  it('crops a size that stays at the right place', () => {
    const crop = { left: 1, top: 2, width: 1, height: 1 };
    for (const filter of ['bilinear', 'bicubic'] as const) {
      expect(
        red(resizeAndCrop(grey(2, 4, [0, 1, 2, 3, 4, 5, 6, 7]), { width: 2, height: 4, crop, filter })),
      ).toEqual([5]);
      // Only the height stays: the row of 4s and 8s becomes one pixel.
      const column = { ...crop, left: 0 };
      expect(
        red(
          resizeAndCrop(grey(2, 4, [0, 1, 2, 3, 4, 8, 6, 7]), { width: 1, height: 4, crop: column, filter }),
        ),
      ).toEqual([6]);
    }
  });

  it('computes the same pixels for a crop as for the whole', () => {
    const size = fc.integer({ min: 1, max: 30 });
    const place = fc.double({ min: 0, max: 1, noNaN: true });
    fc.assert(
      fc.property(
        size,
        size,
        size,
        size,
        place,
        place,
        fc.infiniteStream(fc.nat(255)),
        (w, h, newW, newH, a, b, noise) => {
          const image = {
            width: w,
            height: h,
            data: Uint8Array.from({ length: w * h * 3 }, () => noise.next().value!),
          };
          const left = Math.floor(a * (newW - 1));
          const top = Math.floor(b * (newH - 1));
          const crop = { left, top, width: newW - left, height: newH - top };
          for (const filter of ['bilinear', 'bicubic'] as const) {
            const whole = resize(image, newW, newH, filter);
            const part = resizeAndCrop(image, { width: newW, height: newH, crop, filter });
            for (let y = 0; y < crop.height; y++) {
              const begin = ((top + y) * newW + left) * 3;
              const row = whole.data.slice(begin, begin + crop.width * 3);
              expect(part.data.slice(y * crop.width * 3, (y + 1) * crop.width * 3)).toEqual(row);
            }
          }
        },
      ),
      { numRuns: 50 },
    );
  });
});
