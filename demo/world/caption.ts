/** @file Captions of scenes: complete or partial, in several wordings. */
import { pick, type Random } from './random.js';
import { COLOUR_NAMES, PLACES, type Scene, SHAPES, SIZES, type Thing } from './scene.js';

/** Returns a complete caption, always in the same wording. */
export function fullCaption({ background, things }: Scene): string {
  const parts = things.map((thing) => `${describe(thing)} ${where(thing)}`);
  return `${parts.join(' and ')} on ${article(background)} ${background} background`;
}

/**
 * Returns a caption in a random wording that sometimes omits details. It is always true and names every shape, since an omitted
 * shape would teach the model to generate things that the caption does not mention.
 */
export function randomCaption({ background, things }: Scene, random: Random): string {
  const shuffled = random() < 0.5 ? things : [...things].reverse();
  const parts = shuffled.map((thing) => {
    const described = {
      ...thing,
      size: random() < 0.1 ? undefined : thing.size,
      colour: random() < 0.05 ? undefined : thing.colour,
    };
    return random() < 0.1 ? describe(described) : `${describe(described)} ${where(thing, random)}`;
  });
  const content = parts.join(' and ');
  const style = random();
  if (style < 0.1) return content;
  const ground = pick([`${article(background)} ${background} background`, background], random);
  return style < 0.75 ? `${content} on ${ground}` : `on ${ground}, ${content}`;
}

/**
 * Returns a caption as sparse as those of web images: usually empty, otherwise about one thing. Adapters are trained with
 * these, because an image prompt adds nothing to a complete caption.
 */
export function sparseCaption({ things }: Scene, random: Random): string {
  if (random() < 0.75) return '';
  const { shape, colour } = pick(things, random);
  return describe(random() < 0.5 ? { shape, colour } : { shape });
}

/** Returns the words of all captions, each of which is one token. */
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
