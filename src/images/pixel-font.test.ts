import { expect, it } from 'vitest';
import { drawText, fitText, lineHeight } from './pixel-font.js';

const drawn = (text: string, scale = 1, width = 6 * scale * [...text].length): string[] => {
  const height = 7 * scale;
  const image = { data: new Uint8Array(width * height * 3).fill(255), width, height };
  drawText(image, text, 0, 0, scale);
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => (image.data[(y * width + x) * 3] === 0 ? '#' : ' ')).join(''),
  );
};

it('draws letters, and a box for what is not ASCII', () => {
  expect(drawn('A~猫')).toEqual([
    ' ###        ##### ',
    '#   #       #   # ',
    '#   #  #    #   # ',
    '##### # # # #   # ',
    '#   #    #  #   # ',
    '#   #       #   # ',
    '#   #       ##### ',
  ]);
});

it('draws larger pixels, and nothing outside the image', () => {
  const large = drawn('i', 2);
  expect(large[0]).toBe('    ##      ');
  expect(large).toHaveLength(14);
  expect(drawn('AAA', 1, 8)).toHaveLength(7);
});

it('has a different glyph for every character of ASCII', () => {
  const characters = Array.from({ length: 95 }, (_, i) => String.fromCharCode(32 + i));
  expect(new Set(characters.map((character) => drawn(character).join('\n'))).size).toBe(95);
  expect(lineHeight).toBeGreaterThan(7);
});

it('shortens what does not fit', () => {
  expect(fitText('a red circle', 72, 1)).toBe('a red circle');
  expect(fitText('a red\ncircle', 71, 1)).toBe('a red ci...');
  expect(fitText('a red circle', 6, 1)).toBe('...');
});
