/** @file What a pipeline draws: RGB bytes with the settings that made them, which its PNG carries as text. */
import { writeFile } from 'node:fs/promises';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { encodePng } from '../images/png.js';
import type { ResolvedDrawOptions, ResolvedJob } from '../options/generate-options.js';
import type { ImageSettings } from './conditions.js';

export class GeneratedImage implements RgbImage {
  constructor(
    /** height × width × 3 bytes, row-major, R G B. */
    readonly data: Uint8Array,
    /** In pixels. */
    readonly width: number,
    readonly height: number,
    readonly seed: number,
    /** The settings in the layout that viewers of generated images read: prompt, negative prompt, names and values. */
    readonly parameters: string,
  ) {}

  /** The image as a PNG file's bytes, with `parameters` as its text. */
  toPng(): Promise<Buffer> {
    return encodePng(this, { parameters: this.parameters });
  }

  /** Writes the PNG; an existing file is replaced. */
  async save(file: string): Promise<void> {
    await writeFile(file, await this.toPng());
  }
}

/**
 * The settings of an image as text in AUTOMATIC1111's layout: prompt, negative prompt, then one line `Name: value, …`,
 * in which a value with commas, colons, quotes or line breaks stands in quotes.
 */
export function parametersOf(
  { prompt, imagePrompts, seed }: ResolvedJob,
  draw: ResolvedDrawOptions & ImageSettings & Size,
  { model, adapter, sampler }: { model: string; adapter?: string | undefined; sampler: string },
): string {
  const images = imagePrompts.map(({ image, weight }) => {
    const name = typeof image === 'string' ? image : 'an image in memory';
    return weight === 1 ? name : `${name} (weight ${weight})`;
  });
  const settings: Record<string, string | number> = {
    Steps: draw.steps,
    Sampler: sampler,
    'CFG scale': draw.guidanceScale,
    Seed: seed,
    Size: `${draw.width}x${draw.height}`,
    Model: model,
    ...(images.length > 0 && {
      'IP-Adapter': adapter as string,
      'Image prompts': images.join('; '),
      'Image fit': draw.imageFit,
      'IP-Adapter scale': draw.scale,
      'IP-Adapter start': draw.range[0],
      'IP-Adapter end': draw.range[1],
    }),
  };
  const line = Object.entries(settings).map(([name, value]) => `${name}: ${quoted(String(value))}`);
  const negative = !draw.negativePrompt ? [] : [`Negative prompt: ${draw.negativePrompt}`];
  return [prompt, ...negative, line.join(', ')].join('\n');
}

function quoted(value: string): string {
  return /[,:\n"]/.test(value) ? JSON.stringify(value) : value;
}
