import sharp from 'sharp';
import { expect, it } from 'vitest';
import { mirror } from './mirror.js';

it('exchanges left and right, as libvips does', async () => {
  for (const [width, height] of [
    [1, 1],
    [2, 3],
    [5, 4],
  ] as const) {
    const data = Uint8Array.from({ length: 3 * width * height }, (_, i) => 4 * i);
    const expected = await sharp(data, { raw: { width, height, channels: 3 } })
      .flop()
      .raw()
      .toBuffer();
    expect(mirror({ data, width, height })).toEqual({ data: Uint8Array.from(expected), width, height });
  }
});
