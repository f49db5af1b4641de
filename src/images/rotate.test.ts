import { describe, expect, it } from 'vitest';
import type { RgbImage } from '../base/rgb-image.js';
import { rotate } from './rotate.js';

const image: RgbImage = {
  data: Uint8Array.from({ length: 5 * 5 * 3 }, (_, i) => (i * 37) % 256),
  width: 5,
  height: 5,
};
const pixel = ({ data, width }: RgbImage, x: number, y: number): number[] => [
  ...data.subarray(3 * (y * width + x), 3 * (y * width + x) + 3),
];

describe('rotate', () => {
  it('turns anticlockwise: by 90° the top right comes to the top left', () => {
    const turned = rotate(image, 90);
    expect(pixel(turned, 0, 0)).toEqual(pixel(image, 4, 0));
    expect(pixel(turned, 0, 4)).toEqual(pixel(image, 0, 0));
    expect(pixel(turned, 2, 2)).toEqual(pixel(image, 2, 2));
    expect(rotate(rotate(turned, 90), 180).data).toEqual(image.data);
  });

  it('mirrors at the edges: no pixel of a plain image is black', () => {
    const plain = { ...image, data: new Uint8Array(image.data.length).fill(90) };
    expect(rotate(plain, 33).data).toEqual(plain.data);
  });

  it('interpolates between neighbours', () => {
    const { data } = rotate({ data: Uint8Array.of(0, 0, 0, 100, 100, 100), width: 2, height: 1 }, 60);
    // cos 60° = 1/2: half the distance from the centre, so a quarter and three quarters of the way.
    expect([data[0], data[3]]).toEqual([25, 75]);
  });

  // torch 2.13: grid_sample, bilinear, padding_mode='reflection', of the grid that torchvision 0.28's rotate makes for 33°.
  it('equals PyTorch', () => {
    const { data } = rotate(
      { data: Uint8Array.from({ length: 60 }, (_, i) => (i * 37) % 256), width: 5, height: 4 },
      33,
    );
    expect([...data].filter((_, i) => i % 3 === 0)).toEqual(
      [
        [126, 220, 103, 184, 160],
        [66, 123, 43, 141, 33],
        [41, 158, 88, 135, 147],
        [72, 133, 203, 97, 191],
      ].flat(),
    );
  });
});
