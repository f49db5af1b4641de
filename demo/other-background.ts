/** @file Captions that ask for a background which the reference image does not have: does text count beside the image? */
import { COLOUR_NAMES, type Colour, type Scene } from './world/scene.js';

/** Returns the next colour that neither the background nor a thing has. */
export function otherBackground({ background, things }: Scene): Colour {
  const taken = [background, ...things.map(({ colour }) => colour)];
  const start = COLOUR_NAMES.indexOf(background);
  return COLOUR_NAMES.map((_, i) => COLOUR_NAMES[(start + i) % COLOUR_NAMES.length] as Colour).find(
    (colour) => !taken.includes(colour),
  ) as Colour;
}

/** Returns a caption of the things, without their places, on that background. */
export function captionOnOtherBackground(scene: Scene): string {
  return `${scene.things.map(({ shape }) => `a ${shape}`).join(' and ')} on a ${otherBackground(scene)} background`;
}
