/**
 * @file The scenes of the demo's dataset: one or two shapes on a plain background. A scene determines its image, so that
 * whether a generated image follows its prompt can be checked exactly.
 */
import { pick, type Random, seededRandom } from './random.js';

/** RGB in 0 … 255, distinct enough to be recognised from a few blurred pixels. */
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
  /** An index into PLACES. */
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

/** Returns a text that identifies a scene. */
export function sceneKey({ background, things }: Scene): string {
  const parts = things.map(({ shape, colour, size, place }) => `${size} ${colour} ${shape} ${place}`);
  return [background, ...parts].join(' | ');
}

/** Returns the split of a scene. A hash of the scene selects one in eight as held out, which no training set contains. */
export function splitOf(scene: Scene): Split {
  return fnv1a(sceneKey(scene)) % 8 === 0 ? 'held-out' : 'train';
}

/** Returns distinct scenes of a split, determined by the seed. */
export function sampleScenes(count: number, split: Split, seed: number): Scene[] {
  const random = seededRandom(seed);
  const scenes = new Map<string, Scene>();
  while (scenes.size < count) {
    const scene = randomScene(random);
    if (splitOf(scene) === split) scenes.set(sceneKey(scene), scene);
  }
  return [...scenes.values()];
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
  // No place is apart from the centre, so a thing there is alone.
  if (others.length === 0 || random() < 0.35) return { background, things: [thing(first)] };
  const places = [first, pick(others, random)].sort((a, b) => a - b);
  return { background, things: places.map(thing) };
}

/** The 32-bit FNV-1a hash, with a final mix that makes its low bits uniform. */
function fnv1a(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  return (hash ^ (hash >>> 13)) >>> 0;
}
