/** @file IPAdapterPipeline: models loaded once, pictures drawn as often as one likes. Nothing is printed. */
import { readPicture } from './data/image.js';
import { ConfigError } from './errors.js';
import { decodeLatents, denoise } from './generate.js';
import {
  type DrawOptions,
  drawOptionsSchema,
  type GenerateOptions,
  generateOptionsSchema,
  type ImagePrompt,
  type Job,
  jobSchema,
  type PipelineOptions,
  pipelineOptionsSchema,
  type ResolvedDrawOptions,
  type ResolvedJob,
} from './generate-config.js';
import {
  encodeImages,
  encodeZero,
  type ImageFeatures,
  type ImageFit,
  type ImageTokens,
  imageTokens,
  readImageFeatures,
  writeImageFeatures,
} from './image-prompt.js';
import { assertFeaturesFit } from './ip-adapter/open-adapter.js';
import { resolveOptions } from './options.js';
import { Picture, parametersText } from './picture.js';
import { loadPipelineModels, type PipelineModels } from './pipeline-models.js';
import { createSampler } from './schedulers/create.js';
import { cat, Generator, noGrad, randn, setNumThreads, stack, type Tensor, tensor, tidy } from './torch/index.js';

/** What a caller can watch and stop. */
export interface GenerateHooks {
  /** Ends after the step under way, with the signal's reason as error. */
  signal?: AbortSignal;
  /** After each step, of all that the call takes. */
  onStep?: (report: { step: number; totalSteps: number }) => void;
}

/** Draws pictures that follow text and pictures. Calls may overlap: they take turns, step by step. */
export class IPAdapterPipeline {
  readonly #options: PipelineOptions;
  readonly #models: PipelineModels;

  private constructor(options: PipelineOptions, models: PipelineModels) {
    this.#options = options;
    this.#models = models;
  }

  /**
   * @throws ConfigError, CheckpointError where a file is missing or damaged, or model, encoder and adapter do not go
   * together
   */
  static async load(options: PipelineOptions): Promise<IPAdapterPipeline> {
    const resolved = resolveOptions(pipelineOptionsSchema, options);
    if (resolved.threads !== undefined) setNumThreads(resolved.threads);
    return new IPAdapterPipeline(options, loadPipelineModels(resolved));
  }

  /** What was found, a line each: the adapter, the model, the device. */
  get summary(): string[] {
    const { adapter, unet, size, device, dtype } = this.#models;
    return [
      adapter === undefined
        ? 'No adapter: pictures follow the text alone'
        : `IP-Adapter Plus: ${adapter.numTokens} image tokens, from image features ${adapter.image_proj.config.embeddingDim} wide`,
      `Stable Diffusion: ${size} × ${size} pixels, cross-attention ${unet.config.crossAttentionDim[0]} wide`,
      `On ${device} in ${dtype}`,
    ];
  }

  /**
   * Pictures of one prompt, the n-th with the seed plus n.
   * @throws ConfigError where an option is unknown or out of range; the signal's reason where it was aborted
   */
  async generate({ signal, onStep, ...options }: GenerateOptions & GenerateHooks = {}): Promise<Picture[]> {
    const { prompt, imagePrompts, seed, numImages, ...draw } = resolveOptions(generateOptionsSchema, options);
    const jobs = Array.from({ length: numImages }, (_, i) => ({ prompt, imagePrompts, seed: seed + i }));
    return this.#draw(jobs, draw, { signal, onStep });
  }

  /** A picture for each job, in the jobs' order; options and errors as for `generate`. */
  async generateEach(
    jobs: readonly Job[],
    { signal, onStep, ...options }: DrawOptions & GenerateHooks = {},
  ): Promise<Picture[]> {
    const draw = resolveOptions(drawOptionsSchema, options);
    return this.#draw(
      jobs.map((job) => resolveOptions(jobSchema, job)),
      draw,
      { signal, onStep },
    );
  }

  /**
   * Encodes pictures once and for all: `generate` takes the file in place of them, and needs no image encoder.
   * @param file to write, ending in .safetensors
   */
  async embed(images: readonly ImagePrompt[], file: string, imageFit: ImageFit = 'crop'): Promise<void> {
    if (!isFeaturesFile(file)) throw new ConfigError(`Expected a file that ends in .safetensors but received ${file}`);
    const { features } = await this.#encode(images, imageFit);
    writeImageFeatures(file, features);
  }

  async #draw(jobs: readonly ResolvedJob[], draw: ResolvedDrawOptions, hooks: GenerateHooks): Promise<Picture[]> {
    const tokens = await this.#tokensOf(jobs, draw.imageFit);
    const batches = Math.ceil(jobs.length / draw.batchSize);
    const pictures: Picture[] = [];
    for (let i = 0; i < batches; i++) {
      const batch = jobs.slice(i * draw.batchSize, (i + 1) * draw.batchSize);
      const onStep: GenerateHooks['onStep'] = ({ step, totalSteps }) =>
        hooks.onStep?.({ step: i * totalSteps + step, totalSteps: batches * totalSteps });
      pictures.push(...(await this.#drawBatch(batch, draw, tokens, { signal: hooks.signal, onStep })));
    }
    return pictures;
  }

  async #drawBatch(
    jobs: readonly ResolvedJob[],
    draw: ResolvedDrawOptions,
    imageTokens: ReadonlyMap<ResolvedJob['imagePrompts'], ImageTokens>,
    hooks: GenerateHooks,
  ): Promise<Picture[]> {
    const { unet, vae, adapter, scheduler, size, latentPixels, device } = this.#models;
    const { width = size, height = size } = draw;
    for (const [flag, pixels] of Object.entries({ width, height }))
      if (pixels % latentPixels !== 0)
        throw new ConfigError(`Expected a multiple of ${latentPixels} for --${flag} (${flag}) but received ${pixels}`);

    const generators = jobs.map(({ seed }) => new Generator('cpu', seed));
    const shape = [unet.config.inChannels, height / latentPixels, width / latentPixels];
    // Noise comes from the CPU, each picture's from its own seed: the same on every device and in every batch.
    const noise = (): Tensor => tidy(() => stack(generators.map((generator) => randn(shape, { generator }))).to(device));
    const rows = jobs.map(({ imagePrompts }) => imageTokens.get(imagePrompts));
    const conditions = tidy(() => ({
      text: this.#encodeText(jobs.map(({ prompt }) => prompt)),
      negativeText: this.#encodeText(jobs.map(() => draw.negativePrompt)),
      ...(adapter !== undefined && rows.every((row) => row !== undefined) && {
        image: {
          adapter,
          tokens: cat(rows.map(({ tokens }) => tokens)),
          negativeTokens: cat(rows.map(({ negativeTokens }) => negativeTokens)),
        },
      }),
    }));
    const latents = await denoise(unet, createSampler(scheduler, draw.scheduler), conditions, draw, noise, hooks);
    const pixels = tidy(() => decodeLatents(vae, latents).toBytes());
    for (const tensor of [latents, ...held(conditions)]) tensor.dispose();
    return jobs.map(({ prompt, seed, imagePrompts }, i) => {
      const data = pixels.slice(i * width * height * 3, (i + 1) * width * height * 3);
      return new Picture(data, width, height, seed, this.#parameters());
    });
  }
}
