/** @file Renders scenes with signed distances, antialiased and with the same bytes on every machine. */
import sharp from 'sharp';
import { COLOURS, type Scene, type Thing } from './scene.js';

/** Width and height of every image, in pixels. */
export const SIDE = 64;

/** Centre of each row and column of places, and half the size of things; two large ones two places apart do not touch. */
const CENTRES = [14, 32, 50] as const;
const RADII = { small: 8, large: 13 } as const;

/** Returns row-major RGB, SIDE × SIDE × 3. */
export function renderScene({ background, things }: Scene): Uint8Array {
  const data = new Uint8Array(SIDE * SIDE * 3);
  const [red, green, blue] = COLOURS[background];
  for (let i = 0; i < data.length; i += 3) data.set([red, green, blue], i);
  for (const thing of things) drawThing(data, thing);
  return data;
}

/** Returns the square of pixels that a thing can touch; right and bottom are exclusive. */
export function extentOf({ place, size }: Pick<Thing, 'place' | 'size'>): {
  left: number;
  top: number;
  right: number;
  bottom: number;
} {
  const { x, y } = centreOf(place);
  const reach = RADII[size] + 1;
  return { left: x - reach, top: y - reach, right: x + reach, bottom: y + reach };
}

/** Writes RGB bytes as a PNG file. */
export async function writePng(file: string, data: Uint8Array, width = SIDE, height = SIDE): Promise<void> {
  await sharp(data, { raw: { width, height, channels: 3 } })
    .png()
    .toFile(file);
}

function drawThing(data: Uint8Array, thing: Thing): void {
  const { x: centreX, y: centreY } = centreOf(thing.place);
  const radius = RADII[thing.size];
  const distance = DISTANCES[thing.shape];
  const colour = COLOURS[thing.colour];
  const { left, top, right, bottom } = extentOf(thing);
  for (let y = Math.max(0, top); y < Math.min(SIDE, bottom); y++) {
    for (let x = Math.max(0, left); x < Math.min(SIDE, right); x++) {
      const d = distance(x + 0.5 - centreX, y + 0.5 - centreY, radius);
      // Coverage falls from 1 for a pixel centre half a pixel inside the edge to 0 half a pixel outside.
      const cover = Math.min(1, Math.max(0, 0.5 - d));
      if (cover === 0) continue;
      for (let channel = 0; channel < 3; channel++) {
        const i = (y * SIDE + x) * 3 + channel;
        data[i] = Math.round((data[i] as number) * (1 - cover) + (colour[channel] as number) * cover);
      }
    }
  }
}

/** Returns the centre of a place, in pixels. */
export function centreOf(place: number): { x: number; y: number } {
  return { x: CENTRES[place % 3] as number, y: CENTRES[Math.floor(place / 3)] as number };
}

/** Returns the distance in pixels from a point to the edge of a shape of radius r around the origin; negative inside. */
type Distance = (x: number, y: number, r: number) => number;

const box = (x: number, y: number, halfWidth: number, halfHeight: number): number =>
  Math.max(Math.abs(x) - halfWidth, Math.abs(y) - halfHeight);

const DISTANCES: Record<Thing['shape'], Distance> = {
  circle: (x, y, r) => Math.hypot(x, y) - r,
  square: (x, y, r) => box(x, y, 0.85 * r, 0.85 * r),
  ring: (x, y, r) => Math.abs(Math.hypot(x, y) - 0.76 * r) - 0.24 * r,
  cross: (x, y, r) => Math.min(box(x, y, r, 0.32 * r), box(x, y, 0.32 * r, r)),
  triangle: (x, y, r) => polygon(x, y, TRIANGLE, r),
  star: (x, y, r) => polygon(x, y, STAR, r),
};

const TRIANGLE = corners([1.1, 1.1, 1.1], 0.2);
const STAR = corners(
  Array.from({ length: 10 }, (_, i) => (i % 2 === 0 ? 1.08 : 0.44)),
  0.04,
);

/** Returns corners at equal angles, the first on top, moved down by `shift`. */
function corners(radii: readonly number[], shift: number): readonly (readonly [number, number])[] {
  return radii.map((radius, i) => {
    const angle = (2 * Math.PI * i) / radii.length;
    return [radius * Math.sin(angle), shift - radius * Math.cos(angle)];
  });
}

/** Returns the distance to a polygon's edge, negative inside, where a ray to the right crosses it an odd number of times. */
function polygon(x: number, y: number, unit: readonly (readonly [number, number])[], r: number): number {
  let nearest = Number.POSITIVE_INFINITY;
  let inside = false;
  unit.forEach(([endX, endY], i) => {
    const [startX, startY] = unit.at(i - 1) as readonly [number, number];
    const [ax, ay, bx, by] = [startX * r, startY * r, endX * r, endY * r];
    const along = ((x - ax) * (bx - ax) + (y - ay) * (by - ay)) / ((bx - ax) ** 2 + (by - ay) ** 2);
    const t = Math.min(1, Math.max(0, along));
    nearest = Math.min(nearest, Math.hypot(x - ax - t * (bx - ax), y - ay - t * (by - ay)));
    if (ay > y !== by > y && x < ax + ((y - ay) * (bx - ax)) / (by - ay)) inside = !inside;
  });
  return inside ? -nearest : nearest;
}
