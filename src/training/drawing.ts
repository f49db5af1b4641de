/**
 * @file Generates with the adapter under training. Prompts are encoded once, before the first step, since training changes
 * only what the adapter makes of them; the encoders are in memory only meanwhile. Training stays bit-exactly the same:
 * noise comes from generators of their own.
 */
import { openImageEncoder } from '../adapters/image-encoder.js';
import type { OpenedAdapter } from '../adapters/open-adapter.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { AutoencoderKL, Backbone, DiffusionModel } from '../diffusion/model.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import {
  type EncodedPrompts,
  encodePrompts,
  frameOf,
  type PromptSettings,
  promptsOf,
  releaseTensors,
} from '../generation/conditions.js';
import type { DenoiseSettings } from '../generation/denoise.js';
import { drawImages } from '../generation/draw.js';
import type { PipelineModels } from '../generation/pipeline-models.js';
import { truncationWarning } from '../generation/truncation-warning.js';
import { drawOptionsSchema } from '../options/generate-options.js';
import { resolveOptions } from '../options/options.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import { createSampler } from '../schedulers/create.js';
import { trimMemory } from '../torch/index.js';

/** Images that are generated together. */
export interface PromptBatch {
  seeds: number[];
  prompts: EncodedPrompts;
}

/** An image to generate. */
export interface DrawingJob {
  prompt: string;
  /** The reference image; null: the text alone. */
  image: RgbImage | null;
  seed: number;
}

type Encode = (jobs: readonly DrawingJob[]) => Promise<PromptBatch>;
type Target = Pick<PipelineModels, 'device' | 'dtype'>;

export class Drawing implements Disposable {
  readonly settings: DenoiseSettings & PromptSettings & { batchSize: number; noise: 'cpu' | 'device' };
  readonly #model: DiffusionModel;
  readonly #backbone: Backbone;
  readonly #adapter: OpenedAdapter;
  readonly #imageEncoder: string;
  readonly #target: Target;
  readonly #vae: AutoencoderKL;

  /** @throws ConfigError, CheckpointError where the scheduler is not supported, or not in so many steps */
  constructor(backbone: Backbone, adapter: OpenedAdapter, config: ResolvedTrainOptions, target: Target) {
    const { resolution, validationSamplingSteps: steps, validationGuidanceScale: guidanceScale } = config;
    const size = { width: resolution, height: resolution };
    const drawing = resolveOptions(drawOptionsSchema, { guidanceScale, steps, ...size });
    this.settings = { ...drawing, ...size, clipSkip: config.clipSkip };
    this.#model = openDiffusionModel(config.model);
    this.#backbone = backbone;
    this.#adapter = adapter;
    this.#imageEncoder = config.imageEncoder;
    this.#target = target;
    // What is wrong with scheduler or VAE is found now and not after the first steps.
    using sampler = createSampler(this.#model.schedulerFile());
    sampler.setTimesteps(steps);
    this.#vae = this.#model.loadVAE(target);
  }

  /** Returns a warning where texts are too long; null where none is. */
  truncationWarning(texts: readonly string[]): string | null {
    return truncationWarning(this.#model.tokenizer(), texts);
  }

  /** Returns what `work` returns. The prompts that it encodes are the caller's, for `releaseTensors`. */
  async withEncoders<T>(work: (encode: Encode) => Promise<T>): Promise<T> {
    const { absentNegative, sizeConditioning } = this.#model;
    const imageEncoder = openImageEncoder(this.#imageEncoder).load(this.#target);
    const textEncoder = this.#model.loadTextEncoder(this.#target);
    const encoders = {
      ...{ textEncoder, tokenizer: this.#model.tokenizer(), absentNegative, sizeConditioning },
      ...{ adapters: [{ ...this.#adapter, imageEncoder }], device: this.#target.device },
    };
    try {
      return await work(async (jobs) => {
        const resolved = jobs.map(({ image, ...job }) => {
          return { ...job, imagePrompts: [image === null ? [] : [{ image, weight: 1 }]] };
        });
        const prompts = await encodePrompts(encoders, resolved, this.settings);
        return { seeds: jobs.map(({ seed }) => seed), prompts };
      });
    } finally {
      for (const encoder of [imageEncoder, textEncoder]) encoder[Symbol.dispose]();
      trimMemory();
    }
  }

  /**
   * Generates with the adapter as it is now.
   * @throws CheckpointError where an output is not finite; the signal's reason
   */
  async draw(batches: readonly PromptBatch[], scale: number, signal: AbortSignal): Promise<RgbImage[]> {
    const { latents } = this.#model;
    const scheduler = this.#model.schedulerFile();
    const models = { backbone: this.#backbone, vae: this.#vae, latents, ...this.#target };
    const images: RgbImage[] = [];
    for (const { seeds, prompts } of batches) {
      signal.throwIfAborted();
      const whole = promptsOf(prompts, [{ scale }], frameOf({ latents, scheduler }, this.settings));
      const sampler = createSampler(scheduler);
      try {
        images.push(...(await drawImages(models, sampler, whole, seeds, this.settings, { signal })));
      } finally {
        releaseTensors(whole.images);
      }
    }
    return images;
  }

  [Symbol.dispose](): void {
    releaseTensors(this.#vae.parameters());
  }
}
