/** @file What a pipeline generates: RGB bytes with the settings that made them, which its file carries as text. */
import { writeFile } from 'node:fs/promises';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { encodeImage } from '../images/generated-file.js';
import type { ResolvedDrawOptions, ResolvedJob, WeightedImage } from '../options/generate-options.js';
import { referenceSettings } from '../options/reference-options.js';
import type { ReferenceSettings } from '../options/reference-types.js';
import type { ResolvedPipelineOptions } from './pipeline-models.js';
import { shownPath } from './shown-path.js';
import { sourceParameters } from './source-parameters.js';
import { webUiSampler } from './web-ui-names.js';

export class GeneratedImage implements RgbImage {
  constructor(
    /** height × width × 3 bytes, row-major, R G B. */
    readonly data: Uint8Array,
    /** In pixels. */
    readonly width: number,
    readonly height: number,
    readonly seed: number,
    /** The settings in the layout that viewers of generated images read: prompt, negative prompt, names with values. */
    readonly parameters: string,
    /** All settings as JSON, which `ip-adapter generate --from` reads in the image's file. */
    readonly settings: string,
  ) {}

  /** Returns the bytes of a PNG file, with the settings as its text. */
  toPng(): Promise<Buffer> {
    return encodeImage(this, '.png', this);
  }

  /**
   * Writes a PNG, WebP or JPEG file, as its name ends, with the settings; an existing file is replaced.
   * @throws ConfigError where the name ends in something else
   */
  async save(file: string): Promise<void> {
    await writeFile(file, await encodeImage(this, file, this));
  }
}

/**
 * Returns the settings of an image as text in AUTOMATIC1111's layout: prompt, negative prompt, then one line `Name: value, …`,
 * in which a value with commas, colons, quotes or line breaks stands in quotes. Of files elsewhere it has the names alone.
 */
export function parametersOf(
  { prompt, imagePrompts, seed }: ResolvedJob,
  draw: ResolvedDrawOptions & Size,
  references: readonly ReferenceSettings[],
  { model, loras = [], adapters, controlnet, sampler }: ResolvedPipelineOptions & { sampler: string },
): string {
  const used = imagePrompts.flatMap((list, i) =>
    list.length === 0
      ? []
      : [{ list, adapter: adapters[i]?.adapter as string, settings: references[i] as ReferenceSettings }],
  );
  const settings: [name: string, value: string | number][] = [
    ['Steps', draw.steps],
    ...(draw.scheduler === undefined
      ? [['Sampler', sampler] as [string, string]]
      : webUiSampler(draw.scheduler)),
    ['CFG scale', draw.guidanceScale],
    ...guidanceParameters(draw),
    ['Seed', seed],
    ['Size', `${draw.width}x${draw.height}`],
    // The web UIs count the layer that is taken, from 1.
    ...(draw.clipSkip === 0 ? [] : [['Clip skip', draw.clipSkip + 1] as [string, number]]),
    ...sizeSettings(draw),
    ['Model', shownPath(model)],
    ...sourceParameters(draw, controlnet),
    ...(loras.length === 0
      ? []
      : [
          ['LoRA', loras.map(({ path, scale }) => `${shownPath(path)}:${scale}`).join('; ')] as [
            string,
            string,
          ],
        ]),
    ...used.flatMap(
      ({ list, adapter, settings: { scale, range = [0, 1], ...others } }, i): typeof settings => {
        const [start, end] = range;
        const number = used.length === 1 ? '' : ` ${i + 1}`;
        return [
          [`IP-Adapter${number}`, shownPath(adapter)],
          [`Image prompts${number}`, list.map(nameOf).join('; ')],
          [`Image fit${number}`, draw.imageFit],
          ...(others.influence === undefined
            ? [[`IP-Adapter${number} scale`, scale ?? 1] as [string, number]]
            : []),
          [`IP-Adapter${number} start`, start],
          [`IP-Adapter${number} end`, end],
          ...referenceParameters(others).map(([name, value]): [string, string] => [
            `IP-Adapter${number} ${name}`,
            value,
          ]),
        ];
      },
    ),
  ];
  const line = settings.map(([name, value]) => `${name}: ${quoted(String(value))}`);
  const negative = !draw.negativePrompt ? [] : [`Negative prompt: ${draw.negativePrompt}`];
  return [prompt, ...negative, line.join(', ')].join('\n');
}

/** What changes guidance, as far as it was given. */
function guidanceParameters({
  guidanceRescale,
  guidanceRange,
}: Pick<ResolvedDrawOptions, 'guidanceRescale' | 'guidanceRange'>): [string, string | number][] {
  return [
    ...(guidanceRescale === 0 ? [] : [['Guidance rescale', guidanceRescale] as [string, number]]),
    ...(guidanceRange === undefined ? [] : [['Guidance range', guidanceRange.join('-')] as [string, string]]),
  ];
}

/** SDXL's size conditioning, as far as it was given. */
function sizeSettings({
  originalSize,
  cropsCoordsTopLeft,
  targetSize,
}: Pick<ResolvedDrawOptions, 'originalSize' | 'cropsCoordsTopLeft' | 'targetSize'>): [string, string][] {
  const given = {
    'Original size': originalSize,
    'Crop top left': cropsCoordsTopLeft,
    'Target size': targetSize,
  };
  return Object.entries(given).flatMap(([name, pair]) =>
    pair === undefined ? [] : [[name, pair.join('x')] as [string, string]],
  );
}

/** Other settings of references as far as they were given, such as 'weight type: style'. */
function referenceParameters(settings: ReferenceSettings): [string, string][] {
  const keys = Object.keys(referenceSettings) as (keyof ReferenceSettings)[];
  return keys.flatMap((key): [string, string][] => {
    const value = settings[key];
    const name = key.replace(/[A-Z]/g, (letter) => ` ${letter.toLowerCase()}`);
    return value === undefined ? [] : [[name, shownSetting(value)]];
  });
}

function shownSetting(value: NonNullable<ReferenceSettings[keyof ReferenceSettings]>): string {
  if (typeof value === 'string') return shownPath(value);
  if (typeof value !== 'object') return String(value);
  if (Array.isArray(value)) return value.map(shownSetting).join('; ');
  return 'data' in value
    ? 'an image in memory'
    : JSON.stringify(value, (_, one) => (typeof one === 'string' ? shownPath(one) : one));
}

function nameOf({ image, weight }: WeightedImage): string {
  const name = typeof image === 'string' ? shownPath(image) : 'an image in memory';
  return weight === 1 ? name : `${name} (weight ${weight})`;
}

function quoted(value: string): string {
  return /[,:\n"]/.test(value) ? JSON.stringify(value) : value;
}
