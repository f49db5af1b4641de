/**
 * @file Says what a picture shows, by drawing every possibility and comparing pixels: an exact check of whether a
 * generated picture obeys its caption, with no model in it that could be fooled.
 */
import { extentOf, renderScene, SIDE } from './render.js';
import {
  areApart,
  COLOUR_NAMES,
  COLOURS,
  type Colour,
  PLACES,
  type Scene,
  SHAPES,
  SIZES,
  type Thing,
} from './scene.js';

/** A thing must explain this much squared error, in pixels of full scale; a small yellow star on orange is worth 7. */
const LEAST_EVIDENCE = 5;

/** The scene that is nearest to a picture's pixels (row-major RGB, SIDE × SIDE × 3); without things where it is plain. */
export function readScene(data: Uint8Array): Scene {
  const background = mostFrequentColour(data);
  const candidates = candidatesOn(background)
    .map((candidate) => ({ thing: candidate.thing, evidence: evidenceFor(candidate, data) }))
    .sort((a, b) => b.evidence - a.evidence);
  const [first] = candidates;
  if (first === undefined || first.evidence < LEAST_EVIDENCE) return { background, things: [] };
  const second = candidates.find(({ thing }) => areApart(thing.place, first.thing.place));
  const isThere = second !== undefined && second.evidence >= LEAST_EVIDENCE;
  const things = isThere ? [first.thing, second.thing] : [first.thing];
  return { background, things: things.sort((a, b) => a.place - b.place) };
}

/** How much of a scene another one has: each attribute of each thing at its place, the background, and how many things there are. */
export function compareScenes(wanted: Scene, seen: Scene): Record<Attribute, { right: number; all: number }> {
  const count = wanted.things.length;
  const right = (test: (thing: Thing, other: Thing) => boolean) =>
    wanted.things.filter((thing) => {
      const other = seen.things.find(({ place }) => place === thing.place);
      return other !== undefined && test(thing, other);
    }).length;
  return {
    background: { right: Number(seen.background === wanted.background), all: 1 },
    count: { right: Number(seen.things.length === count), all: 1 },
    place: { right: right(() => true), all: count },
    shape: { right: right((a, b) => a.shape === b.shape), all: count },
    colour: { right: right((a, b) => a.colour === b.colour), all: count },
    size: { right: right((a, b) => a.size === b.size), all: count },
  };
}

export type Attribute = 'background' | 'count' | 'place' | 'shape' | 'colour' | 'size';

/** One thing drawn on a background, and the pixels in which it differs from it. */
interface Candidate {
  thing: Thing;
  /** Byte offsets. */
  where: Int32Array;
  drawn: Uint8Array;
  plain: readonly number[];
}

/** By how much the squared error falls when the thing is there, in pixels of full-scale difference. */
function evidenceFor({ where, drawn, plain }: Candidate, data: Uint8Array): number {
  let gain = 0;
  for (let i = 0; i < where.length; i++) {
    const at = where[i] as number;
    const value = data[at] as number;
    gain += (value - (plain[at % 3] as number)) ** 2 - (value - (drawn[i] as number)) ** 2;
  }
  return gain / 255 ** 2;
}

const cache = new Map<Colour, Candidate[]>();

function candidatesOn(background: Colour): Candidate[] {
  const known = cache.get(background);
  if (known !== undefined) return known;
  const made: Candidate[] = [];
  for (const place of PLACES.keys())
    for (const size of SIZES)
      for (const shape of SHAPES)
        for (const colour of COLOUR_NAMES)
          if (colour !== background) made.push(draw({ shape, colour, size, place }, background));
  cache.set(background, made);
  return made;
}

function draw(thing: Thing, background: Colour): Candidate {
  const data = renderScene({ background, things: [thing] });
  const plain = COLOURS[background];
  const { left, top, right, bottom } = extentOf(thing);
  const where: number[] = [];
  for (let y = Math.max(0, top); y < Math.min(SIDE, bottom); y++)
    for (let x = Math.max(0, left); x < Math.min(SIDE, right); x++)
      for (let channel = 0; channel < 3; channel++) {
        const at = (y * SIDE + x) * 3 + channel;
        if (data[at] !== plain[channel]) where.push(at);
      }
  return {
    thing,
    where: Int32Array.from(where),
    drawn: Uint8Array.from(where, (at) => data[at] as number),
    plain,
  };
}

function mostFrequentColour(data: Uint8Array): Colour {
  const counts = new Map<Colour, number>();
  for (let i = 0; i < data.length; i += 3) {
    let nearest: Colour = 'black';
    let least = Number.POSITIVE_INFINITY;
    for (const name of COLOUR_NAMES) {
      const distance = COLOURS[name].reduce(
        (sum, value, channel) => sum + (value - (data[i + channel] as number)) ** 2,
        0,
      );
      if (distance < least) [nearest, least] = [name, distance];
    }
    counts.set(nearest, (counts.get(nearest) ?? 0) + 1);
  }
  return [...counts].reduce((a, b) => (b[1] > a[1] ? b : a))[0];
}
