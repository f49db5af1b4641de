/**
 * @file Validation images: what the adapter under training makes of a few image prompts, again and again with the same
 * seeds. They are what `ip-adapter generate` makes with the checkpoint of the step. Training stays bit-exactly the same:
 * noise comes from generators of their own.
 */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';
import { openImageEncoder } from '../adapters/image-encoder.js';
import type { OpenedAdapter } from '../adapters/open-adapter.js';
import { writeFileAtomically } from '../base/atomic-file.js';
import { CheckpointError, ConfigError, isSystemError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import type { RgbImage, Size } from '../base/rgb-image.js';
import type { GuardedContext } from '../base/run-context.js';
import type { AutoencoderKL, Backbone, LatentSpace } from '../diffusion/model.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { onMain, type Processes } from '../distributed/processes.js';
import {
  type EncodedPrompts,
  encodePrompts,
  frameOf,
  promptsOf,
  releaseTensors,
} from '../generation/conditions.js';
import type { DenoiseSettings } from '../generation/denoise.js';
import { drawImages } from '../generation/draw.js';
import { truncationWarning } from '../generation/truncation-warning.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { encodePng } from '../images/png.js';
import { trainCrop } from '../images/train-transform.js';
import { drawOptionsSchema } from '../options/generate-options.js';
import { resolveOptions } from '../options/options.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import type { SchedulerFile } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import { type Device, type DType, trimMemory } from '../torch/index.js';
import type { StepReporter } from './reports/step-reporter.js';
import { type SheetRow, validationSheet } from './validation-sheet.js';

/** The signal ends a sheet early; nothing is written then. */
interface ValidationContext extends Pick<GuardedContext, 'signal' | 'emit' | 'onMessage'> {
  processes: Processes;
  device: Device;
  dtype: DType;
  /** The step that the run starts from. */
  step: number;
}

/** Images of one prompt that are generated together. */
interface ValidationBatch {
  seeds: number[];
  prompts: EncodedPrompts;
}

/** A row of the sheet. */
interface ValidationRow {
  label: string;
  /** The image prompt, of the size of what is generated. */
  reference: RgbImage;
  /** One image of the text alone, with the first seed. */
  textAlone: ValidationBatch;
  batches: ValidationBatch[];
}

/**
 * Encodes the prompts; the encoders are in memory only meanwhile.
 * @returns undefined where no images are asked for
 * @throws ConfigError, ImageError where options or images are at fault; CheckpointError as for `generate`
 */
export async function openValidation(
  backbone: Backbone,
  adapter: OpenedAdapter,
  config: ResolvedTrainOptions,
  context: ValidationContext,
): Promise<Validation | undefined> {
  const { validationImages: files, resolution, validationSamplingSteps: steps } = config;
  const texts = textsOf(config);
  if (files.length === 0) return undefined;
  const references = await Promise.all(files.map((file) => readImage(fileSource(file))));
  const model = openDiffusionModel(config.model);
  const scheduler = model.schedulerFile();
  // Found now and not at the first sheet: a scheduler that is not supported, or not in so many steps.
  using sampler = createSampler(scheduler);
  sampler.setTimesteps(steps);

  const size = { width: resolution, height: resolution };
  const drawing = resolveOptions(drawOptionsSchema, {
    guidanceScale: config.validationGuidanceScale,
    steps,
    ...size,
  });
  const settings = { ...drawing, ...size, scale: config.validationScale, clipSkip: config.clipSkip };
  const { batchSize } = drawing;
  // Without messages: the run reports its models itself.
  const target = { device: context.device, dtype: context.dtype };
  const imageEncoder = openImageEncoder(config.imageEncoder).load(target);
  const textEncoder = model.loadTextEncoder(target);
  const models = {
    textEncoder,
    tokenizer: model.tokenizer(),
    absentNegative: model.absentNegative,
    sizeConditioning: model.sizeConditioning,
    adapters: [{ ...adapter, imageEncoder }],
    device: context.device,
  };
  const warning = truncationWarning(models.tokenizer, texts);
  if (warning !== null) context.onMessage(warning);
  const rows: ValidationRow[] = [];
  for (const [i, image] of references.entries()) {
    const prompt = texts[i] as string;
    const imagePrompts = [[{ image, weight: 1 }]];
    const encode = async (seeds: number[], images: typeof imagePrompts | [[]]): Promise<ValidationBatch> => {
      const jobs = seeds.map((seed) => ({ prompt, imagePrompts: images, seed }));
      return { seeds, prompts: await encodePrompts(models, jobs, settings) };
    };
    const batches: ValidationBatch[] = [];
    for (let first = 0; first < config.numValidationImages; first += batchSize) {
      const count = Math.min(batchSize, config.numValidationImages - first);
      batches.push(await encode(seedsFrom(config.seed + first, count), imagePrompts));
    }
    rows.push({
      label: `${basename(files[i] as string)}: ${prompt === '' ? 'no text' : prompt}`,
      // As the image encoder sees it: the square in the middle.
      reference: trainCrop(image, size),
      textAlone: await encode([config.seed], [[]]),
      batches,
    });
  }
  for (const encoder of [imageEncoder, textEncoder]) encoder[Symbol.dispose]();
  trimMemory();
  const vae = model.loadVAE(target);
  const folder = join(config.outputDir, 'validation');
  const isDrawn = await onMain(context.processes, () => existsSync(sheetFile(folder, context.step)));
  return new Validation({
    models: { backbone, vae, scheduler, latents: model.latents, ...target },
    rows,
    columns: [
      'image prompt',
      'scale 0',
      ...seedsFrom(config.seed, config.numValidationImages).map((seed) => `seed ${seed}`),
    ],
    settings,
    folder,
    // A run that was killed after its checkpoint has not generated its images, and makes up for it.
    drawnAt: context.step === 0 || isDrawn ? context.step : undefined,
    context,
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
  models: {
    backbone: Backbone;
    vae: AutoencoderKL;
    scheduler: SchedulerFile;
    latents: LatentSpace;
    device: Device;
    dtype: DType;
  };
  rows: readonly ValidationRow[];
  /** Titles. */
  columns: readonly string[];
  settings: DenoiseSettings & Size & { scale: number; noise: 'cpu' | 'device' };
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
    const { rows, columns, settings, context } = this.#parts;
    const { rank, worldSize } = context.processes;
    const title = `step ${step}, scale ${settings.scale}, guidance ${settings.guidanceScale}`;
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
    const words = [title, columns.join(' | '), ...rows.map(({ label }) => label)].join('\n');
    return { image: validationSheet(title, columns, sheetRows), words };
  }

  /** Generates what rows of the sheet show: what the text alone makes, and then the images. */
  async #drawRows(rows: readonly ValidationRow[]): Promise<DrawnRows> {
    const { signal } = this.#parts.context;
    try {
      // Training does not change what the text alone makes.
      this.#textAlone ??= await this.#generate(rows.map(({ textAlone }) => textAlone));
      const images: RgbImage[][] = [];
      for (const [i, { batches }] of rows.entries())
        images.push([this.#textAlone[i] as RgbImage, ...(await this.#generate(batches))]);
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
    const { rows, settings, context } = this.#parts;
    const { worldSize } = context.processes;
    if (worldSize === 1) return [...own];
    const { width, height } = settings;
    const gathered = await context.processes.gatherBytes(Buffer.concat(own.flat().map(({ data }) => data)));
    return rows.map(({ batches }, i) => {
      const bytes = 3 * width * height;
      const count = 1 + batches.reduce((sum, { seeds }) => sum + seeds.length, 0);
      const first = Math.floor(i / worldSize) * count;
      return Array.from({ length: count }, (_, k) => ({
        data: (gathered[i % worldSize] as Uint8Array).slice((first + k) * bytes, (first + k + 1) * bytes),
        ...{ width, height },
      }));
    });
  }

  async #generate(batches: readonly ValidationBatch[]): Promise<RgbImage[]> {
    const { models, settings, context } = this.#parts;
    const images: RgbImage[] = [];
    for (const { seeds, prompts } of batches) {
      context.signal.throwIfAborted();
      const whole = promptsOf(prompts, [{ scale: settings.scale }], frameOf(models, settings));
      const sampler = createSampler(models.scheduler);
      try {
        images.push(...(await drawImages(models, sampler, whole, seeds, settings, context)));
      } finally {
        releaseTensors(whole.images);
      }
    }
    return images;
  }

  async #show({ image, words }: LabelledSheet, step: number, reporter: StepReporter): Promise<void> {
    const { folder, context } = this.#parts;
    const file = sheetFile(folder, step);
    // Labels are cut to the width of the sheet; viewers show the whole words.
    const png = await encodePng(image, { Description: words });
    reporter.image('validation', { png, width: image.width, height: image.height });
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
    const { models, rows } = this.#parts;
    for (const { textAlone, batches } of rows) releaseTensors([textAlone, batches]);
    releaseTensors(models.vae.parameters());
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
}
