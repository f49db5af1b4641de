import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { changeColors } from './color-jitter.js';

/** Bytes (i² · 31 + i · 7) >> 3 of 64 × 64 pixels: all kinds of colours, among them greys and their neighbours. */
const image = {
  data: Uint8Array.from({ length: 64 * 64 * 3 }, (_, i) => ((i * i * 31 + i * 7) >> 3) & 255),
  width: 64,
  height: 64,
};

// torchvision 0.28's adjust_brightness and its siblings on Pillow 13: ImageEnhance.Brightness, Contrast and Color, .enhance(by); for hue as torchvision's adjust_hue, the H of convert('HSV')
// plus int(by · 255), back by convert('RGB'). The first 16 digits of the SHA-256 of tobytes().
describe('changeColors, to the byte as Pillow', () => {
  it.each([
    ['brightness', 0.3, '055b6e6b4d06f29a'],
    ['brightness', 1.7, 'f70aa852e558cd2a'],
    ['contrast', 0.3, '1517e98246bff3e8'],
    ['contrast', 1.7, '04c14b5100dc4ad5'],
    ['saturation', 0.3, 'a8e57d5693b5baa0'],
    ['saturation', 1.7, 'db13ebc4389a2fe7'],
    ['hue', -0.4, '6139d3adfb264948'],
    ['hue', 0.11, '73dcd7e48144ad65'],
    ['hue', 0.5, 'e1a02695c6fafcdc'],
  ] as const)('%s %d', (of, by, expected) => {
    const { data } = changeColors(image, [{ of, by }]);
    expect(createHash('sha256').update(data).digest('hex').slice(0, 16)).toBe(expected);
  });
});
