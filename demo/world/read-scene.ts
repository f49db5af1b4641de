/**
 * @file Recognises the scene in an image by rendering every possible thing and comparing pixels. This checks whether a
 * generated image follows its prompt without relying on a learned model.
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

/** The squared error that a thing must explain, in pixels of full-scale difference; a small yellow star on orange explains 7. */
const MIN_EVIDENCE = 5;

/** Returns the scene closest to an image's pixels (row-major RGB, SIDE × SIDE × 3); a plain image has no things. */
export function readScene(data: Uint8Array): Scene {
  const background = mostFrequentColour(data);
  const candidates = candidatesOn(background)
    .map((candidate) => ({ thing: candidate.thing, evidence: evidenceFor(candidate, data) }))
    .sort((a, b) => b.evidence - a.evidence);
  const [first] = candidates;
  if (first === undefined || first.evidence < MIN_EVIDENCE) return { background, things: [] };
  const second = candidates.find(({ thing }) => areApart(thing.place, first.thing.place));
  const hasSecond = second !== undefined && second.evidence >= MIN_EVIDENCE;
  const things = hasSecond ? [first.thing, second.thing] : [first.thing];
  return { background, things: things.sort((a, b) => a.place - b.place) };
}

/** Counts the attributes in which `seen` agrees with `expected`: of each thing at its place, the background, the number of things. */
export function compareScenes(
  expected: Scene,
  seen: Scene,
): Record<Attribute, { right: number; all: number }> {
  const count = expected.things.length;
  const right = (test: (thing: Thing, other: Thing) => boolean) =>
    expected.things.filter((thing) => {
      const other = seen.things.find(({ place }) => place === thing.place);
      return other !== undefined && test(thing, other);
    }).length;
  return {
    background: { right: Number(seen.background === expected.background), all: 1 },
    count: { right: Number(seen.things.length === count), all: 1 },
    place: { right: right(() => true), all: count },
    shape: { right: right((a, b) => a.shape === b.shape), all: count },
    colour: { right: right((a, b) => a.colour === b.colour), all: count },
    size: { right: right((a, b) => a.size === b.size), all: count },
  };
}

export type Attribute = 'background' | 'count' | 'place' | 'shape' | 'colour' | 'size';

/** A thing rendered on a background, and the pixels in which it differs from the background. */
interface Candidate {
  thing: Thing;
  /** Byte offsets of the differing pixels. */
  offsets: Int32Array;
  /** Their rendered values. */
  rendered: Uint8Array;
  /** RGB of the background. */
  plain: readonly number[];
}

/** Returns how much the thing reduces the squared error, in pixels of full-scale difference. */
function evidenceFor({ offsets, rendered, plain }: Candidate, data: Uint8Array): number {
  let gain = 0;
  for (let i = 0; i < offsets.length; i++) {
    const at = offsets[i] as number;
    const value = data[at] as number;
    gain += (value - (plain[at % 3] as number)) ** 2 - (value - (rendered[i] as number)) ** 2;
  }
  return gain / 255 ** 2;
}

const cache = new Map<Colour, Candidate[]>();

function candidatesOn(background: Colour): Candidate[] {
  const cached = cache.get(background);
  if (cached !== undefined) return cached;
  const candidates: Candidate[] = [];
  for (const place of PLACES.keys())
    for (const size of SIZES)
      for (const shape of SHAPES)
        for (const colour of COLOUR_NAMES)
          if (colour !== background)
            candidates.push(renderCandidate({ shape, colour, size, place }, background));
  cache.set(background, candidates);
  return candidates;
}

function renderCandidate(thing: Thing, background: Colour): Candidate {
  const data = renderScene({ background, things: [thing] });
  const plain = COLOURS[background];
  const { left, top, right, bottom } = extentOf(thing);
  const offsets: number[] = [];
  for (let y = Math.max(0, top); y < Math.min(SIDE, bottom); y++)
    for (let x = Math.max(0, left); x < Math.min(SIDE, right); x++)
      for (let channel = 0; channel < 3; channel++) {
        const at = (y * SIDE + x) * 3 + channel;
        if (data[at] !== plain[channel]) offsets.push(at);
      }
  return {
    thing,
    offsets: Int32Array.from(offsets),
    rendered: Uint8Array.from(offsets, (at) => data[at] as number),
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
