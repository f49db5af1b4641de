/**
 * @file Validation images: what the adapter under training draws of a few image prompts, again and again with the same
 * seeds. They are what `ip-adapter generate` would draw with the checkpoint of the step, and training does not notice:
 * noise comes from generators of their own.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { openImageEncoder } from '../adapters/image-encoder.js';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { OpenedAdapter } from '../adapters/open-adapter.js';
import { writeFileAtomically } from '../base/atomic-file.js';
import { ConfigError, isSystemError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import type { RgbImage, Size } from '../base/rgb-image.js';
import type { GuardedContext } from '../base/run-context.js';
import type { AutoencoderKL, Backbone, LatentSpace } from '../diffusion/model.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { type EncodedPrompts, encodePrompts, promptsOf, releaseTensors } from '../generation/conditions.js';
import type { DenoiseSettings } from '../generation/denoise.js';
import { drawPictures } from '../generation/draw.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { contactSheet, encodePng } from '../images/png.js';
import { trainCrop } from '../images/train-transform.js';
import { drawOptionsSchema } from '../options/generate-options.js';
import { resolveOptions } from '../options/options.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import type { SchedulerFile } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import { type Device, type DType, trimMemory } from '../torch/index.js';
import type { StepReporter } from './reports/step-reporter.js';

/** The signal ends a drawing early; nothing is written then. */
interface ValidationContext extends Pick<GuardedContext, 'signal' | 'emit' | 'onMessage'> {
  device: Device;
  dtype: DType;
  /** The step that the run starts from. */
  step: number;
}

/** Images that are drawn together, of one prompt. */
interface ValidationBatch {
  seeds: number[];
  prompts: EncodedPrompts;
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
  const pictures = await Promise.all(files.map((file) => readImage(fileSource(file))));
  const model = openDiffusionModel(config.model);
  const scheduler = model.schedulerFile();
  // Found now and not at the first drawing: a scheduler that cannot draw, or not in so many steps.
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
  const imageEncoder = openImageEncoder(config.imageEncoder).load(context);
  const textEncoder = model.loadTextEncoder(context);
  const models = {
    imageEncoder,
    textEncoder,
    tokenizer: model.tokenizer(),
    absentNegative: model.absentNegative,
    sizeConditioning: model.sizeConditioning,
    adapter,
    device: context.device,
  };
  const batches: ValidationBatch[] = [];
  for (const [i, image] of pictures.entries()) {
    const imagePrompts = [{ image, weight: 1 }];
    for (let first = 0; first < config.numValidationImages; first += batchSize) {
      const count = Math.min(batchSize, config.numValidationImages - first);
      const seeds = Array.from({ length: count }, (_, k) => config.seed + first + k);
      const jobs = seeds.map((seed) => ({ prompt: texts[i] as string, imagePrompts, seed }));
      batches.push({ seeds, prompts: await encodePrompts(models, jobs, settings) });
    }
  }
  for (const encoder of [imageEncoder, textEncoder]) encoder[Symbol.dispose]();
  trimMemory();
  const vae = model.loadVAE(context);
  const folder = join(config.outputDir, 'validation');
  return new Validation({
    models: {
      ...{ backbone, vae, scheduler, latents: model.latents, device: context.device },
      adapter: adapter.module,
    },
    // As the image encoder sees them: the square in the middle.
    pictures: pictures.map((picture) => trainCrop(picture, size)),
    batches,
    settings,
    folder,
    // A run that was killed after its checkpoint has not drawn, and makes up for it.
    drawnAt: context.step === 0 || existsSync(sheetFile(folder, context.step)) ? context.step : undefined,
    context,
  });
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
    adapter: IPAdapter;
    vae: AutoencoderKL;
    scheduler: SchedulerFile;
    latents: LatentSpace;
    device: Device;
  };
  /** The image prompts, of the size of what is drawn. */
  pictures: RgbImage[];
  /** In the order of the images; as many drawings for each. */
  batches: ValidationBatch[];
  settings: DenoiseSettings & Size & { scale: number };
  folder: string;
  /** The step after which the last drawing was made, or 0 where the run starts; undefined where it is not known. */
  drawnAt: number | undefined;
  context: ValidationContext;
}

export class Validation implements Disposable {
  readonly #parts: ValidationParts;
  #drawnAt: number | undefined;

  /** @internal */
  constructor(parts: ValidationParts) {
    this.#parts = parts;
    this.#drawnAt = parts.drawnAt;
  }

  /**
   * Draws with the adapter as it is after `step`, once for a step, into `validation/step-N.png`: a row for each image
   * prompt, the prompt first.
   */
  async draw(step: number, reporter: StepReporter): Promise<void> {
    if (step === this.#drawnAt) return;
    await reporter.untimed(async () => {
      try {
        const sheet = await this.#sheet();
        if (sheet !== undefined) await this.#show(sheet, step, reporter);
      } finally {
        // The largest blocks are the VAE's, and training has no use for them.
        trimMemory();
      }
    });
  }

  /** @returns undefined where a signal ended it early */
  async #sheet(): Promise<RgbImage | undefined> {
    const { models, pictures, batches, settings, context } = this.#parts;
    const drawn: RgbImage[] = [];
    for (const { seeds, prompts } of batches) {
      if (context.signal.aborted) return undefined;
      const whole = promptsOf(models.adapter, prompts, { scale: settings.scale, range: [0, 1] });
      const sampler = createSampler(models.scheduler);
      try {
        drawn.push(...(await drawPictures(models, sampler, whole, seeds, settings, context)));
      } catch (error) {
        if (context.signal.aborted) return undefined;
        throw error;
      } finally {
        releaseTensors(whole.images);
      }
    }
    const each = drawn.length / pictures.length;
    const rows = pictures.flatMap((picture, i) => [picture, ...drawn.slice(i * each, (i + 1) * each)]);
    return contactSheet(rows, 1 + each);
  }

  async #show(sheet: RgbImage, step: number, reporter: StepReporter): Promise<void> {
    const { folder, context } = this.#parts;
    const file = sheetFile(folder, step);
    const png = await encodePng(sheet);
    reporter.image('validation', { png, width: sheet.width, height: sheet.height });
    this.#drawnAt = step;
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
    const { models, batches } = this.#parts;
    releaseTensors(batches);
    releaseTensors(models.vae.parameters());
  }
}
