/** @file IPAdapterPipeline: models loaded once, pictures drawn as often as one likes. Nothing is printed. */

import { contextDimOf, type OpenedAdapter } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import { downloadModels } from '../diffusion/download-models.js';
import type { DownloadHooks } from '../hub/download.js';
import type { Size } from '../images/image.js';
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
} from '../options/generate-options.js';
import { resolveOptions } from '../options/options.js';
import { createSampler } from '../schedulers/create.js';
import { setNumThreads } from '../torch/index.js';
import { makePrompts, releaseTensors } from './conditions.js';
import { drawPictures } from './draw.js';
import { Picture, parametersOf } from './generated-image.js';
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
    const { adapter, backbone, family, imageSize, device, dtype } = this.#models;
    return [
      adapter === undefined ? 'No adapter: images follow the text alone' : describe(adapter),
      `${family}: ${imageSize} × ${imageSize} pixels, cross-attention ${contextDimOf(backbone.sites)} wide`,
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
    this.#models[Symbol.dispose]();
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
    hooks.signal?.throwIfAborted();
    const sampler = createSampler(this.#models.scheduler, draw.scheduler);
    const name = draw.scheduler ?? sampler.constructor.name;
    const { scale, start, end } = draw;
    const prompts = await makePrompts(this.#models, jobs, draw.negativePrompt, draw.imageFit, {
      scale,
      range: [start, end],
    });
    try {
      const seeds = jobs.map(({ seed }) => seed);
      const pictures = await drawPictures(this.#models, sampler, prompts, seeds, draw, hooks);
      return pictures.map(({ data, width, height }, i) => {
        const job = jobs[i] as ResolvedJob;
        const parameters = parametersOf(job, draw, { ...this.#options, sampler: name });
        return new Picture(data, width, height, job.seed, parameters);
      });
    } finally {
      releaseTensors(prompts);
    }
  }

  #sizeOf({ width, height }: ResolvedDrawOptions): Size {
    const {
      imageSize,
      latents: { downsample },
    } = this.#models;
    const sides = { width: width ?? imageSize, height: height ?? imageSize };
    for (const [key, pixels] of Object.entries(sides))
      if (pixels % downsample !== 0)
        throw new ConfigError(
          `--${key} is ${pixels}; it must be a multiple of ${downsample}: a latent stands for ${downsample} × ${downsample} pixels`,
        );
    return sides;
  }
}

function describe({ kind, module: { image_proj: projection } }: OpenedAdapter): string {
  const tokens =
    projection.numTokens === null ? 'an image token for each' : `${projection.numTokens} image tokens`;
  const features = kind.feature === 'pooled' ? 'an embedding' : 'hidden states';
  return `${kind.title}: ${tokens}, from ${features} ${projection.embeddingDim} wide`;
}
