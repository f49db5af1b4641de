/** @file Counts the images of a dataset: sizes, duplicates, and properties that viewers and training treat differently. */
import { createHash } from 'node:crypto';
import type { Size } from '../base/rgb-image.js';
import type { ImageHeader } from '../images/image.js';
import { type ImagesReport, spreadOf } from './report.js';

export class ImageTally {
  readonly #widths: number[] = [];
  readonly #heights: number[] = [];
  readonly #rowsByContent = new Map<string, number[]>();
  #enlarged = 0;
  #turned = 0;
  #grey16 = 0;
  #avif = 0;

  /** Adds the image of a row. @param target its training size @param bytes the content of its file */
  add(row: number, header: ImageHeader, target: Size, bytes: Uint8Array): void {
    const { width, height, orientation = 1, space, channels, format } = header;
    if (orientation !== 1) this.#turned++;
    if (space === 'grey16' && channels === 1) this.#grey16++;
    if (format === 'heif') this.#avif++;
    this.#widths.push(width);
    this.#heights.push(height);
    if (width < target.width || height < target.height) this.#enlarged++;
    const content = createHash('sha256').update(bytes).digest('base64');
    const alike = this.#rowsByContent.get(content);
    if (alike === undefined) this.#rowsByContent.set(content, [row]);
    else alike.push(row);
  }

  report(): ImagesReport {
    const duplicates = [...this.#rowsByContent.values()]
      .filter(({ length }) => length > 1)
      .map((rows) => rows.sort((a, b) => a - b))
      .sort(([a], [b]) => (a as number) - (b as number));
    return {
      width: spreadOf(this.#widths),
      height: spreadOf(this.#heights),
      enlarged: this.#enlarged,
      duplicates,
      turned: this.#turned,
      grey16: this.#grey16,
      avif: this.#avif,
    };
  }
}
