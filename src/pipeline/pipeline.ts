/** @file IPAdapterPipeline: models loaded once, pictures drawn as often as one likes. Nothing is printed. */

import { downloadModels } from '../download-models.js';
import { ConfigError } from '../errors.js';
import { decodeLatents, denoise } from '../generate.js';
import type { DownloadHooks } from '../hub/download.js';
import type { OpenedAdapter } from '../ip-adapter/open-adapter.js';
import { resolveOptions } from '../options.js';
import { createSampler } from '../schedulers/create.js';
import { Generator, randn, setNumThreads, stack, type Tensor, tidy } from '../torch/index.js';
import { makeConditions, releaseConditions } from './conditions.js';
import {
  type DrawOptions,
  drawOptionsSchema,
  type GenerateOptions,
  generateOptionsSchema,
  type Job,
  jobSchema,
  type PipelineOptions,
  pipelineOptionsSchema,
  type ResolvedDrawOptions,
  type ResolvedJob,
} from './generate-config.js';
import { Picture, parametersOf } from './picture.js';
import { loadPipelineModels, type PipelineModels } from './pipeline-models.js';

/** What a caller can watch and stop. */
export interface GenerateHooks {
  /** Ends after the step under way, with the signal's reason as error. */
  signal?: AbortSignal;
  /** After each step, of all that the call takes. */
  onStep?: (report: { step: number; totalSteps: number }) => void;
}

/** Draws pictures that follow text and pictures. Calls may overlap: they take turns, step by step. */
export class IPAdapterPipeline implements Disposable {
  readonly #options: PipelineOptions;
  readonly #models: PipelineModels;

  private constructor(options: PipelineOptions, models: PipelineModels) {
    this.#options = options;
    this.#models = models;
  }

  /**
   * Models that are names on the Hub are downloaded where they are not in its cache.
   * @throws ConfigError, CheckpointError where a file is missing or damaged, or model, encoder and adapter do not go
   * together; the signal's reason where it ended a download
   */
  static async load(options: PipelineOptions, hooks: DownloadHooks = {}): Promise<IPAdapterPipeline> {
    const resolved = resolveOptions(pipelineOptionsSchema, options);
    const { model: stableDiffusion, imageEncoder, adapter } = resolved;
    await downloadModels({ stableDiffusion, imageEncoder, adapter }, hooks);
    if (resolved.threads !== undefined) setNumThreads(resolved.threads);
    return new IPAdapterPipeline(options, loadPipelineModels(resolved));
  }

  /** What was found, a line each: the adapter, the model, the device. */
  get summary(): string[] {
    const { adapter, unet, size, device, dtype } = this.#models;
    return [
      adapter === undefined ? 'No adapter: pictures follow the text alone' : describe(adapter),
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
    const resolved = jobs.map((job) => resolveOptions(jobSchema, job));
    return this.#draw(resolved, draw, { signal, onStep });
  }

  /** Lets go of the models' memory, now and not when the garbage collector comes; the pipeline is of no use then. */
  [Symbol.dispose](): void {
    const { unet, vae, textEncoder, encoder, adapter } = this.#models;
    for (const module of [unet, vae, textEncoder, encoder?.model, adapter?.module])
      for (const parameter of module?.parameters() ?? []) parameter.dispose();
  }

  async #draw(
    jobs: readonly ResolvedJob[],
    draw: ResolvedDrawOptions,
    hooks: GenerateHooks,
  ): Promise<Picture[]> {
    const size = this.#sizeOf(draw);
    const batches = Math.ceil(jobs.length / draw.batchSize);
    const pictures: Picture[] = [];
    for (let i = 0; i < batches; i++) {
      const batch = jobs.slice(i * draw.batchSize, (i + 1) * draw.batchSize);
      const onStep: GenerateHooks['onStep'] = ({ step, totalSteps }) =>
        hooks.onStep?.({ step: i * totalSteps + step, totalSteps: batches * totalSteps });
      pictures.push(
        ...(await this.#drawBatch(batch, { ...draw, ...size }, { signal: hooks.signal, onStep })),
      );
    }
    return pictures;
  }

  async #drawBatch(
    jobs: readonly ResolvedJob[],
    draw: ResolvedDrawOptions & Size,
    hooks: GenerateHooks,
  ): Promise<Picture[]> {
    const { unet, vae, scheduler, latentPixels, device } = this.#models;
    const { width, height } = draw;
    hooks.signal?.throwIfAborted();
    // Noise comes from the CPU, each picture's from its own seed: the same on every device and in every batch.
    const generators = jobs.map(({ seed }) => new Generator('cpu', seed));
    const shape = [unet.config.inChannels, height / latentPixels, width / latentPixels];
    const noise = (): Tensor =>
      tidy(() => stack(generators.map((generator) => randn(shape, { generator }))).to(device));

    const sampler = createSampler(scheduler, draw.scheduler);
    const conditions = await makeConditions(this.#models, jobs, draw.negativePrompt, draw.imageFit);
    try {
      const latents = await denoise(unet, sampler, conditions, draw, noise, hooks);
      const pixels = tidy(() => decodeLatents(vae, latents).toBytes());
      latents.dispose();
      const bytes = width * height * 3;
      const name = draw.scheduler ?? sampler.constructor.name;
      return jobs.map((job, i) => {
        const parameters = parametersOf(job, draw, { ...this.#options, sampler: name });
        return new Picture(pixels.slice(i * bytes, (i + 1) * bytes), width, height, job.seed, parameters);
      });
    } finally {
      releaseConditions(conditions);
    }
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
}

/** In pixels. */
interface Size {
  width: number;
  height: number;
}

function describe({ title, module: { image_proj: projection } }: OpenedAdapter): string {
  return `${title}: ${projection.numTokens} image tokens, from ${projection.takes === 'embedding' ? 'an embedding' : 'hidden states'} ${projection.embeddingDim} wide`;
}
