/** @file What people would write under a scene: all of it, or some of it, in several wordings. */
import { pick, type Random } from './random.js';
import { COLOUR_NAMES, PLACES, type Scene, SHAPES, SIZES, type Thing } from './scene.js';

/** Everything that the picture shows, always in the same words. */
export function fullCaption({ background, things }: Scene): string {
  const parts = things.map((thing) => `${describe(thing)} ${where(thing)}`);
  return `${parts.join(' and ')} on ${article(background)} ${background} background`;
}

/**
 * A caption in random words that leaves details out now and then. All that it says is true, and every shape is named:
 * a caption that were silent about one would teach that things appear unasked.
 */
export function randomCaption({ background, things }: Scene, random: Random): string {
  const shuffled = random() < 0.5 ? things : [...things].reverse();
  const parts = shuffled.map((thing) => {
    const kept = {
      ...thing,
      size: random() < 0.1 ? undefined : thing.size,
      colour: random() < 0.05 ? undefined : thing.colour,
    };
    return random() < 0.1 ? describe(kept) : `${describe(kept)} ${where(thing, random)}`;
  });
  const content = parts.join(' and ');
  const style = random();
  if (style < 0.1) return content;
  const ground = pick([`${article(background)} ${background} background`, background], random);
  return style < 0.75 ? `${content} on ${ground}` : `on ${ground}, ${content}`;
}

/**
 * What the web would write under a scene: mostly nothing, else a word about one thing in it. That is what an adapter is
 * trained with. Where a caption says everything, a picture beside it has nothing to add, and the adapter learns nothing.
 */
export function sparseCaption({ things }: Scene, random: Random): string {
  if (random() < 0.75) return '';
  const { shape, colour } = pick(things, random);
  return describe(random() < 0.5 ? { shape, colour } : { shape });
}

/** The words of all captions: what the tokenizer knows as one token each. */
export function captionWords(): string[] {
  const places = PLACES.flatMap((place) => place.split(' '));
  const others = ['a', 'an', 'and', 'at', 'in', 'on', 'the', 'background', 'middle'];
  return [...new Set([...SIZES, ...COLOUR_NAMES, ...SHAPES, ...places, ...others])];
}

function describe({ size, colour, shape }: { size?: string; colour?: string; shape: string }): string {
  const words = [size, colour, shape].filter((word) => word !== undefined).join(' ');
  return `${article(words)} ${words}`;
}

function where({ place }: Thing, random?: Random): string {
  const name = PLACES[place] as string;
  if (name !== 'centre') return `at the ${name}`;
  return `in the ${random === undefined ? name : pick(['centre', 'middle'], random)}`;
}

function article(next: string): string {
  return /^[aeiou]/.test(next) ? 'an' : 'a';
}
