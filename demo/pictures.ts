/** @file A small captioned picture set, drawn here: shapes of one colour on a background of another. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';

const COLOURS = {
  red: '#d62828',
  orange: '#f77f00',
  yellow: '#fcca3f',
  green: '#2a9d4b',
  blue: '#2962d9',
  purple: '#7b2cbf',
  white: '#f8f8f5',
  black: '#1b1b1e',
};
const SIZES = { small: 0.2, large: 0.36 };

type Shape = (x: number, y: number, radius: number) => string;

const SHAPES: Record<string, Shape> = {
  circle: (x, y, r) => `<circle cx="${x}" cy="${y}" r="${r}"/>`,
  square: (x, y, r) => `<rect x="${x - r}" y="${y - r}" width="${2 * r}" height="${2 * r}"/>`,
  triangle: (x, y, r) => polygon(x, y, [r, r, r]),
  diamond: (x, y, r) => polygon(x, y, [r, r, r, r]),
  star: (x, y, r) =>
    polygon(
      x,
      y,
      Array.from({ length: 10 }, (_, i) => (i % 2 === 0 ? r : 0.45 * r)),
    ),
};

export interface Picture {
  file: string;
  caption: string;
  svg: string;
}

function captionOf(size: string, colour: string, shape: string, background: string): string {
  const article = /^[aeiou]/.test(background) ? 'an' : 'a';
  return `a ${size} ${colour} ${shape} on ${article} ${background} background`;
}

/** The words of all captions: what the demo's tokenizer knows. */
export function captionWords(): string[] {
  const variable = [SIZES, COLOURS, SHAPES].flatMap((names) => Object.keys(names));
  return ['a', 'an', 'on', 'background', ...variable];
}

/**
 * Scenes with their captions; the same for the same seed.
 * @param side width and height, pixels
 */
export function drawPictures(count: number, side: number, seed: number): Picture[] {
  const random = mulberry32(seed);
  const pick = <T>(items: readonly T[]): T => items[Math.floor(random() * items.length)] as T;
  return Array.from({ length: count }, (_, i) => {
    const [size, scale] = pick(Object.entries(SIZES));
    const [colour, fill] = pick(Object.entries(COLOURS));
    const [background, paper] = pick(Object.entries(COLOURS).filter(([name]) => name !== colour));
    const [shape, draw] = pick(Object.entries(SHAPES));
    const radius = scale * side;
    const place = () => Math.round(radius + random() * (side - 2 * radius));
    const svg =
      `<svg xmlns="http://www.w3.org/2000/svg" width="${side}" height="${side}">` +
      `<rect width="100%" height="100%" fill="${paper}"/><g fill="${fill}">${draw(place(), place(), radius)}</g></svg>`;
    return {
      file: `${String(i).padStart(3, '0')}.png`,
      caption: captionOf(size, colour, shape, background),
      svg,
    };
  });
}

/** Writes the pictures and, beside them, `dataset.json` as `ip-adapter train` reads it. Returns its path. */
export async function writePictures(folder: string, pictures: readonly Picture[]): Promise<string> {
  mkdirSync(folder, { recursive: true });
  await Promise.all(
    pictures.map(({ file, svg }) => sharp(Buffer.from(svg)).png().toFile(join(folder, file))),
  );
  const dataset = join(folder, 'dataset.json');
  const rows = pictures.map(({ file, caption }) => ({ image_file: file, text: caption }));
  writeFileSync(dataset, `${JSON.stringify(rows, null, 2)}\n`);
  return dataset;
}

/** Corners at equal angles, the first on top. */
function polygon(x: number, y: number, radii: readonly number[]): string {
  const corners = radii.map((radius, i) => {
    const angle = (2 * Math.PI * i) / radii.length;
    return `${(x + radius * Math.sin(angle)).toFixed(1)},${(y - radius * Math.cos(angle)).toFixed(1)}`;
  });
  return `<polygon points="${corners.join(' ')}"/>`;
}

/** Tommy Ettinger's mulberry32: uniform numbers in [0, 1). */
function mulberry32(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
