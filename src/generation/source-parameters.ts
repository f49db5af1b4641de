/** @file The settings of an image that was made from others, for its text. */
import type { RgbImage } from '../base/rgb-image.js';
import type { ResolvedDrawOptions } from '../options/generate-options.js';
import { strengthOf } from '../options/source-options.js';
import { shownPath } from './shown-path.js';
import { controlSettings } from './sources.js';

/** Returns names and values; none for an image that was made of text and reference images alone. */
export function sourceParameters(
  draw: ResolvedDrawOptions,
  controlnets: readonly string[] = [],
): [name: string, value: string | number][] {
  const { initImage, maskImage, controlImage = [], guessMode, vaeTiling } = draw;
  return [
    ...(initImage === undefined
      ? []
      : ([
          ['Init image', nameOf(initImage)],
          // The web UIs' name.
          ['Denoising strength', strengthOf(draw)],
        ] as [string, string | number][])),
    ...(maskImage === undefined ? [] : ([['Mask image', nameOf(maskImage)]] as [string, string][])),
    ...controlnets.flatMap((controlnet, i): [string, string | number][] => {
      const number = controlnets.length === 1 ? '' : ` ${i + 1}`;
      const { scale, range } = controlSettings(draw, i);
      return [
        [`ControlNet${number}`, shownPath(controlnet)],
        [`Control image${number}`, nameOf(controlImage[i] as string | RgbImage)],
        [`ControlNet${number} scale`, scale],
        [`ControlNet${number} start`, range[0]],
        [`ControlNet${number} end`, range[1]],
      ];
    }),
    ...(guessMode ? ([['Guess mode', 'true']] as [string, string][]) : []),
    ...(vaeTiling ? ([['VAE tiling', 'true']] as [string, string][]) : []),
  ];
}

function nameOf(image: string | RgbImage): string {
  return typeof image === 'string' ? shownPath(image) : 'an image in memory';
}
