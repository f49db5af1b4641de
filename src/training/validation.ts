/**
 * @file Validation images: what the adapter under training makes of a few image prompts, again and again with the same
 * seeds. They are what `ip-adapter generate` makes with the checkpoint of the step. Training stays bit-exactly the same:
 * noise comes from generators of their own.
 */
import { existsSync } from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { writeFileAtomically } from '../base/atomic-file.js';
import { CheckpointError, ConfigError, isSystemError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { GuardedContext, SheetEvent } from '../base/run-context.js';
import { onMain, type Processes } from '../distributed/processes.js';
import { releaseTensors } from '../generation/conditions.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { labelledSheet, type SheetRow } from '../images/labelled-sheet.js';
import { encodePng } from '../images/png.js';
import { trainCrop } from '../images/train-transform.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import { trimMemory } from '../torch/index.js';
import type { Drawing, PromptBatch } from './drawing.js';
import type { StepReporter } from './reports/step-reporter.js';

/** The signal ends a sheet early; nothing is written then. */
interface ValidationContext extends Pick<GuardedContext, 'signal' | 'emit' | 'onMessage'> {
  processes: Processes;
  /** The step that the run starts from. */
  step: number;
}

/** A row of the sheet. */
interface ValidationRow {
  label: string;
  /** The image prompt, of the size of what is generated. */
  reference: RgbImage;
  /** One image of the text alone, with the first seed. */
  textAlone: PromptBatch;
  /** For each scale. */
  batches: PromptBatch[];
}

/**
 * Encodes the prompts.
 * @returns undefined where no images are asked for
 * @throws ConfigError, ImageError where options or images are at fault; CheckpointError as for `generate`
 */
export async function openValidation(
  drawing: Drawing | undefined,
  config: ResolvedTrainOptions,
  context: ValidationContext,
): Promise<Validation | undefined> {
  const { validationImages: files, validationScales: scales, numValidationImages: count, seed } = config;
  const texts = textsOf(config);
  if (files.length === 0 || drawing === undefined) return undefined;
  const references = await Promise.all(files.map((file) => readImage(fileSource(file))));
  const { settings } = drawing;
  const warning = drawing.truncationWarning(texts);
  if (warning !== null) context.onMessage(warning);
  const rows = await drawing.withEncoders(async (encode) => {
    const encoded: ValidationRow[] = [];
    for (const [i, image] of references.entries()) {
      const prompt = texts[i] as string;
      const jobs = seedsFrom(seed, count).map((seed) => ({ prompt, image, seed }));
      const batches: PromptBatch[] = [];
      for (let first = 0; first < count; first += settings.batchSize)
        batches.push(await encode(jobs.slice(first, first + settings.batchSize)));
      encoded.push({
        label: `${basename(files[i] as string)}: ${prompt === '' ? 'no text' : prompt}`,
        // As the image encoder sees it: the square in the middle.
        reference: trainCrop(image, settings),
        textAlone: await encode([{ prompt, image: null, seed }]),
        batches,
      });
    }
    return encoded;
  });
  const folder = join(config.outputDir, 'validation');
  const isDrawn = await onMain(context.processes, () => existsSync(sheetFile(folder, context.step)));
  return new Validation({
    ...{ drawing, rows, scales, folder, context },
    columns: [
      'image prompt',
      'scale 0',
      ...scales.flatMap((scale) =>
        seedsFrom(seed, count).map((one) =>
          scales.length === 1 ? `seed ${one}` : `scale ${scale}, seed ${one}`,
        ),
      ),
    ],
    // A run that was killed after its checkpoint has not generated its images, and makes up for it.
    drawnAt: context.step === 0 || isDrawn ? context.step : undefined,
  });
}

function seedsFrom(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

function sheetFile(folder: string, step: number): string {
  return join(folder, `step-${step}.png`);
}

/** The text of each image. */
function textsOf({ validationImages: files, validationPrompts: prompts }: ResolvedTrainOptions): string[] {
  if (prompts.length === files.length) return prompts;
  if (prompts.length > 1 || files.length === 0)
    throw new ConfigError(
      `--validation-prompts (validationPrompts) has ${prompts.length} prompts for ${files.length} --validation-images; give one for all, or one for each`,
    );
  return files.map(() => prompts[0] ?? '');
}

interface ValidationParts {
  drawing: Drawing;
  rows: readonly ValidationRow[];
  scales: readonly number[];
  /** Titles. */
  columns: readonly string[];
  folder: string;
  /** The step of the last sheet, or 0 where the run starts; undefined where it is not known. */
  drawnAt: number | undefined;
  context: ValidationContext;
}

export class Validation implements Disposable {
  readonly #parts: ValidationParts;
  #drawnAt: number | undefined;
  /** For each row that this process draws. */
  #textAlone: RgbImage[] | undefined;

  /** @internal */
  constructor(parts: ValidationParts) {
    this.#parts = parts;
    this.#drawnAt = parts.drawnAt;
  }

  /**
   * Generates with the adapter as it is after `step`, once for a step, into `validation/step-N.png`: a row for each image
   * prompt, with the prompt, the text alone and then the images.
   */
  async draw(step: number, reporter: StepReporter): Promise<void> {
    if (step === this.#drawnAt) return;
    await reporter.untimed(async () => {
      try {
        const sheet = await this.#sheet(step);
        if (sheet === undefined) return;
        this.#drawnAt = step;
        if (this.#parts.context.processes.isMain) await this.#show(sheet, step, reporter);
      } finally {
        // The largest blocks are the VAE's, and training has no use for them.
        trimMemory();
      }
    });
  }

  /** @returns undefined where a signal ended it early, or a part makes NaN */
  async #sheet(step: number): Promise<LabelledSheet | undefined> {
    const { rows, columns, scales, drawing, context } = this.#parts;
    const { rank, worldSize } = context.processes;
    const title = `step ${step}, scale ${scales.join(', ')}, guidance ${drawing.settings.guidanceScale}`;
    // Each process draws some of the rows.
    const own = rows.filter((_, i) => i % worldSize === rank);
    const drawn = await context.processes.together(() => this.#drawRows(own));
    const all = await context.processes.gatherJson({ ...drawn, images: undefined });
    const fault = all.find(({ fault }) => fault !== undefined)?.fault;
    if (fault !== undefined) {
      context.onMessage(`No validation images after step ${step}: ${fault}`);
      this.#drawnAt = step;
    }
    if (all.some(({ isDrawn }) => !isDrawn)) return undefined;
    const images = await this.#gather(drawn.images);
    const sheetRows = rows.map(
      ({ label, reference }, i): SheetRow => ({
        label,
        images: [reference, ...(images[i] as RgbImage[])],
      }),
    );
    const labels = rows.map(({ label }) => label);
    const words = [title, columns.join(' | '), ...labels].join('\n');
    const { width, height } = drawing.settings;
    const cells = { width, height, columns: [...columns], rows: labels };
    return { image: labelledSheet(title, columns, sheetRows), words, cells };
  }

  /** Generates what rows of the sheet show: what the text alone makes, and then the images. */
  async #drawRows(rows: readonly ValidationRow[]): Promise<DrawnRows> {
    const { drawing, scales, context } = this.#parts;
    const { signal } = context;
    try {
      // Training does not change what the text alone makes.
      const textAlone = rows.map((row) => row.textAlone);
      this.#textAlone ??= await drawing.draw(textAlone, 1, signal);
      const images: RgbImage[][] = [];
      for (const [i, { batches }] of rows.entries()) {
        const row = [this.#textAlone[i] as RgbImage];
        for (const scale of scales) row.push(...(await drawing.draw(batches, scale, signal)));
        images.push(row);
      }
      return { isDrawn: true, images };
    } catch (error) {
      if (signal.aborted) return { isDrawn: false, images: [] };
      // No image is worth a run, whose own guard looks for NaN.
      if (!(error instanceof CheckpointError)) throw error;
      return { isDrawn: false, images: [], fault: error.message };
    }
  }

  /** Returns the images of each row of the sheet, from the process that has drawn them. */
  async #gather(own: readonly (readonly RgbImage[])[]): Promise<(readonly RgbImage[])[]> {
    const { rows, columns, drawing, context } = this.#parts;
    const { worldSize } = context.processes;
    if (worldSize === 1) return [...own];
    const { width, height } = drawing.settings;
    const gathered = await context.processes.gatherBytes(Buffer.concat(own.flat().map(({ data }) => data)));
    return rows.map((_, i) => {
      const bytes = 3 * width * height;
      // All but the reference image.
      const count = columns.length - 1;
      const first = Math.floor(i / worldSize) * count;
      return Array.from({ length: count }, (_, k) => ({
        data: (gathered[i % worldSize] as Uint8Array).slice((first + k) * bytes, (first + k + 1) * bytes),
        ...{ width, height },
      }));
    });
  }

  async #show({ image, words, cells }: LabelledSheet, step: number, reporter: StepReporter): Promise<void> {
    const { folder, context } = this.#parts;
    const file = sheetFile(folder, step);
    // Labels are cut to the width of the sheet; viewers show the whole words.
    const png = await encodePng(image, { Description: words });
    reporter.image('validation', { png, width: image.width, height: image.height });
    const path = relative(dirname(folder), file);
    reporter.log({ v: 1, type: 'sheet', step, time: Date.now() / 1000, path, ...cells });
    try {
      makeFolder(folder);
      writeFileAtomically(file, (append) => append(png));
      context.onMessage(`Drew ${file}`);
      context.emit({ type: 'image', step, path: file });
    } catch (error) {
      // An image is not worth a run.
      if (!isSystemError(error)) throw error;
      context.onMessage(`${file} could not be written: ${error.message}`);
    }
  }

  [Symbol.dispose](): void {
    for (const { textAlone, batches } of this.#parts.rows) releaseTensors([textAlone, batches]);
  }
}

interface DrawnRows {
  /** Whether all were drawn. */
  isDrawn: boolean;
  /** By row. */
  images: RgbImage[][];
  fault?: string;
}

interface LabelledSheet {
  image: RgbImage;
  words: string;
  cells: Pick<SheetEvent, 'width' | 'height' | 'columns' | 'rows'>;
}
