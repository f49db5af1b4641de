/** @file Measures of generated scenes: which colours there are, and where shapes are, whatever their colours. */
import type { RgbImage } from '../src/index.js';

/** Returns the overlap of two colour histograms, 0 … 1, with four levels of each channel. */
export function colourOverlap(a: RgbImage, b: RgbImage): number {
  const [first, second] = [histogram(a), histogram(b)];
  return first.reduce((sum, share, i) => sum + Math.min(share, second[i] as number), 0);
}

function histogram({ data }: RgbImage): Float64Array {
  const shares = new Float64Array(64);
  for (let i = 0; i < data.length; i += 3) {
    const [red = 0, green = 0, blue = 0] = data.subarray(i, i + 3);
    shares[(red >> 6) * 16 + (green >> 6) * 4 + (blue >> 6)]! += 3 / data.length;
  }
  return shares;
}

/** Returns the intersection over union of the pixels that differ from the background in two images. */
export function shapesIoU(a: RgbImage, b: RgbImage): number {
  const [first, second] = [shapesOf(a), shapesOf(b)];
  const shared = first.filter((is, i) => is && second[i]).length;
  const either = first.filter((is, i) => is || second[i]).length;
  return either === 0 ? 1 : shared / either;
}

/** The distance in RGB from which a pixel is not background. */
const DISTANCE = 60;

/** Returns for each pixel whether it belongs to a shape. The background has the most frequent colour. */
function shapesOf({ data }: RgbImage): boolean[] {
  const pixels = Array.from({ length: data.length / 3 }, (_, i) => [...data.subarray(i * 3, i * 3 + 3)]);
  const groups = new Map<string, number[][]>();
  for (const pixel of pixels) {
    const key = pixel.map((level) => level >> 5).join();
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [pixel]);
    else group.push(pixel);
  }
  const background = [...groups.values()].reduce((most, group) =>
    group.length > most.length ? group : most,
  );
  const colour = [0, 1, 2].map(
    (channel) => background.reduce((sum, pixel) => sum + (pixel[channel] as number), 0) / background.length,
  );
  return pixels.map(
    (pixel) => Math.hypot(...pixel.map((level, channel) => level - (colour[channel] as number))) > DISTANCE,
  );
}
