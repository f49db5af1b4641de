/** @file What a pipeline draws: RGB bytes with the settings that made them, which its PNG carries as text. */
import { writeFile } from 'node:fs/promises';
import type { RgbImage } from './data/image.js';
import { encodePng } from './data/png.js';

export class Picture implements RgbImage {
  constructor(
    /** height × width × 3 bytes, row-major, R G B. */
    readonly data: Uint8Array,
    /** In pixels. */
    readonly width: number,
    readonly height: number,
    readonly seed: number,
    /** The settings in the layout that viewers of generated pictures read: prompt, negative prompt, names and values. */
    readonly parameters: string,
  ) {}

  /** The picture as a PNG file's bytes, with `parameters` as its text. */
  toPng(): Promise<Buffer> {
    return encodePng(this, { parameters: this.parameters });
  }

  /** Writes the PNG; an existing file is replaced. */
  async save(file: string): Promise<void> {
    await writeFile(file, await this.toPng());
  }
}

/**
 * The text of a picture: AUTOMATIC1111's layout, prompt, negative prompt and one line `Name: value, …`, in which a
 * value with commas, colons or line breaks stands in quotes.
 */
export function parametersText(prompt: string, negativePrompt: string, settings: Record<string, string | number>): string {
  const quoted = (value: string | number): string => (/[,:\n"]/.test(String(value)) ? JSON.stringify(value) : String(value));
  const lines = [
    prompt,
    ...(negativePrompt === '' ? [] : [`Negative prompt: ${negativePrompt}`]),
    Object.entries(settings)
      .map(([name, value]) => `${name}: ${quoted(value)}`)
      .join(', '),
  ];
  return lines.join('\n');
}
