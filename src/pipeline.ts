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
    const size = this.#sizeOf(draw);
    const sets = new Map<ResolvedJob['imagePrompts'], ImageTokens>();
    for (const { imagePrompts } of jobs)
      if (imagePrompts.length > 0 && !sets.has(imagePrompts)) sets.set(imagePrompts, await this.#tokens(imagePrompts, draw));
    if (sets.size > 0 && jobs.some(({ imagePrompts }) => imagePrompts.length === 0))
      throw new ConfigError('Expected image prompts for every picture, or for none');

    const batches = Math.ceil(jobs.length / draw.batchSize);
    const pictures: Picture[] = [];
    try {
      for (let i = 0; i < batches; i++) {
        const batch = jobs.slice(i * draw.batchSize, (i + 1) * draw.batchSize);
        const tokens = batch.flatMap(({ imagePrompts }) => sets.get(imagePrompts) ?? []);
        const onStep: GenerateHooks['onStep'] = ({ step, totalSteps }) =>
          hooks.onStep?.({ step: i * totalSteps + step, totalSteps: batches * totalSteps });
        pictures.push(...(await this.#drawBatch(batch, tokens, { ...draw, ...size }, { signal: hooks.signal, onStep })));
      }
    } finally {
      for (const { tokens, negativeTokens } of sets.values()) for (const one of [tokens, negativeTokens]) one.dispose();
    }
    return pictures;
  }

  /** @param tokens one for each job, or none */
  async #drawBatch(
    jobs: readonly ResolvedJob[],
    tokens: readonly ImageTokens[],
    draw: ResolvedDrawOptions & Size,
    hooks: GenerateHooks,
  ): Promise<Picture[]> {
    const { unet, vae, scheduler, latentPixels, device } = this.#models;
    const { width, height } = draw;
    hooks.signal?.throwIfAborted();
    // Noise comes from the CPU, each picture's from its own seed: the same on every device and in every batch.
    const generators = jobs.map(({ seed }) => new Generator('cpu', seed));
    const shape = [unet.config.inChannels, height / latentPixels, width / latentPixels];
    const noise = (): Tensor => tidy(() => stack(generators.map((generator) => randn(shape, { generator }))).to(device));

    const prompts = jobs.map(({ prompt }) => prompt);
    using conditions = makeConditions(this.#models, prompts, draw.negativePrompt, tokens);
    const latents = await denoise(unet, createSampler(scheduler, draw.scheduler), conditions, draw, noise, hooks);
    const pixels = tidy(() => decodeLatents(vae, latents).toBytes());
    latents.dispose();
    return jobs.map((job, i) => {
      const data = pixels.slice(i * width * height * 3, (i + 1) * width * height * 3);
      return new Picture(data, width, height, job.seed, parametersText(job, draw, this.#options));
    });
  }

  #sizeOf({ width, height }: ResolvedDrawOptions): Size {
    const { size, latentPixels } = this.#models;
    const sides = { width: width ?? size, height: height ?? size };
    for (const [key, pixels] of Object.entries(sides))
      if (pixels % latentPixels !== 0)
        throw new ConfigError(
          `Expected a multiple of ${latentPixels} for --${key} (${key}) but received ${pixels}: a latent stands for ${latentPixels} × ${latentPixels} pixels`,
        );
    return sides;
  }

  async #tokens(prompts: ResolvedJob['imagePrompts'], { imageFit }: ResolvedDrawOptions): Promise<ImageTokens> {
    const { adapter } = this.#models;
    if (adapter === undefined) throw new ConfigError('Expected an adapter for image prompts: give --adapter (adapter)');
    const { features, weights } = await this.#encode(prompts, imageFit);
    try {
      return imageTokens(adapter, features, weights);
    } finally {
      for (const one of [features.features, features.zeroFeatures]) one.dispose();
    }
  }

  /** The features of pictures and of saved embeddings, with the weight of each row. */
  async #encode(prompts: ResolvedJob['imagePrompts'], fit: ImageFit): Promise<{ features: ImageFeatures; weights: number[] }> {
    const weighted = prompts.map((prompt) => (typeof prompt === 'object' && 'image' in prompt ? prompt : { image: prompt, weight: 1 }));
    const loaded = await Promise.all(
      weighted.map(async ({ image, weight }) => {
        if (typeof image !== 'string') return { image, weight };
        return isFeaturesFile(image) ? { file: image, weight } : { image: await readPicture(image), weight };
      }),
    );
    return tidy(() => {
      const parts = loaded.map(({ image, file, weight }) => {
        const features = file === undefined ? this.#encodeImage(image as RgbImage, fit) : this.#readFeatures(file);
        return { ...features, weights: Array<number>(features.features.shape[0] as number).fill(weight) };
      });
      const features = cat(parts.map(({ features }) => features));
      // Of one encoder, all are the same.
      const { zeroFeatures } = parts[0] as ImageFeatures;
      return { features: { features, zeroFeatures }, weights: parts.flatMap(({ weights }) => weights) };
    });
  }
}
