/**
 * @file What there is in the demo's world: one or two shapes on a plain background. A scene is a handful of words,
 * and the picture follows from it, so that whether a picture obeys its caption can be checked exactly.
 */
import { pick, type Random, seededRandom } from './random.js';

/** Red, green, blue of 0 … 255; far enough apart that a colour can be told from a few blurred pixels. */
export const COLOURS = {
  red: [214, 40, 40],
  orange: [247, 140, 20],
  yellow: [250, 224, 70],
  green: [40, 160, 70],
  blue: [40, 90, 220],
  purple: [130, 50, 190],
  white: [248, 248, 244],
  black: [26, 26, 30],
} as const;

export const SHAPES = ['circle', 'square', 'triangle', 'star', 'ring', 'cross'] as const;
export const SIZES = ['small', 'large'] as const;

/** The nine places, row by row: place i is in row ⌊i / 3⌋ and column i mod 3. */
export const PLACES = [
  'top left',
  'top',
  'top right',
  'left',
  'centre',
  'right',
  'bottom left',
  'bottom',
  'bottom right',
] as const;

export type Colour = keyof typeof COLOURS;
export const COLOUR_NAMES = Object.keys(COLOURS) as Colour[];

export interface Thing {
  shape: (typeof SHAPES)[number];
  colour: Colour;
  size: (typeof SIZES)[number];
  /** An index of PLACES. */
  place: number;
}

export interface Scene {
  background: Colour;
  /** One, or two in the order of their places. */
  things: readonly Thing[];
}

export type Split = 'train' | 'held-out';

/** Whether two large things fit at these places side by side: two rows or two columns lie between their centres. */
export function areApart(a: number, b: number): boolean {
  const rows = Math.abs(Math.floor(a / 3) - Math.floor(b / 3));
  const columns = Math.abs((a % 3) - (b % 3));
  return Math.max(rows, columns) === 2;
}

/** Names a scene: the same text for the same picture, and only for it. */
export function sceneKey({ background, things }: Scene): string {
  const parts = things.map(({ shape, colour, size, place }) => `${size} ${colour} ${shape} ${place}`);
  return [background, ...parts].join(' | ');
}

/** One combination in eight is held out, chosen by a hash of the whole combination: it is in no training set. */
export function splitOf(scene: Scene): Split {
  return fnv1a(sceneKey(scene)) % 8 === 0 ? 'held-out' : 'train';
}

/** Different scenes of a split; the same for the same seed. */
export function sampleScenes(count: number, split: Split, seed: number): Scene[] {
  const random = seededRandom(seed);
  const found = new Map<string, Scene>();
  while (found.size < count) {
    const scene = randomScene(random);
    if (splitOf(scene) === split) found.set(sceneKey(scene), scene);
  }
  return [...found.values()];
}

function randomScene(random: Random): Scene {
  const background = pick(COLOUR_NAMES, random);
  const thing = (place: number): Thing => ({
    shape: pick(SHAPES, random),
    colour: pick(
      COLOUR_NAMES.filter((name) => name !== background),
      random,
    ),
    size: pick(SIZES, random),
    place,
  });
  const first = Math.floor(random() * PLACES.length);
  const others = PLACES.map((_, place) => place).filter((place) => areApart(first, place));
  // Everything is next to the centre: what lies there is alone.
  if (others.length === 0 || random() < 0.35) return { background, things: [thing(first)] };
  const places = [first, pick(others, random)].sort((a, b) => a - b);
  return { background, things: places.map(thing) };
}

/** The hash of Fowler, Noll and Vo, 32 bits, with a final mix so that its lowest bits are as good as the others. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
