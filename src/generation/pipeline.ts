/** @file IPAdapterPipeline: models loaded once, pictures drawn as often as one likes. Nothing is printed. */

import type { z } from 'zod';
import { contextDimOf, type OpenedAdapter } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import type { Size } from '../base/rgb-image.js';
import { type RunContext, withContext } from '../base/run-context.js';
import { downloadModels } from '../diffusion/download-models.js';
import {
  adapterEntries,
  drawOptionsSchema,
  type ImagePromptOptions,
  jobSchema,
  type LoadedAdapter,
  pipelineOptionsSchema,
  promptOptionsSchema,
  type ResolvedDrawOptions,
  type ResolvedJob,
  weighted,
} from '../options/generate-options.js';
import type { DrawOptions, Job, PipelineOptions, PromptOptions } from '../options/generate-types.js';
import { resolveOptions } from '../options/options.js';
import { createSampler } from '../schedulers/create.js';
import { setNumThreads } from '../torch/index.js';
import { type ImageSettings, makePrompts, releaseTensors } from './conditions.js';
import type { DenoiseHooks } from './denoise.js';
import { drawPictures } from './draw.js';
import { GeneratedImage, parametersOf } from './generated-image.js';
import { loadPipelineModels, type PipelineModels } from './pipeline-models.js';

/** Draws pictures that follow text and pictures. Calls may overlap: they take turns, step by step. */
export class IPAdapterPipeline implements Disposable {
  readonly #options: ReturnType<typeof modelsOf>;
  readonly #models: PipelineModels;

  private constructor(options: ReturnType<typeof modelsOf>, models: PipelineModels) {
    this.#options = options;
    this.#models = models;
  }

  /**
   * Models that are names on the Hub are downloaded where they are not in its cache.
   * @throws ConfigError, CheckpointError where a file is missing or damaged, or model, encoder and adapter do not go
   * together; the signal's reason where it ended a download
   */
  static async load(options: PipelineOptions, context: RunContext = {}): Promise<IPAdapterPipeline> {
    const resolved = modelsOf(resolveOptions(pipelineOptionsSchema, options));
    const { model: stableDiffusion, imageEncoder, adapter } = resolved;
    await withContext(context, (guarded) =>
      downloadModels({ stableDiffusion, imageEncoder, adapter }, guarded),
    );
    if (resolved.threads !== undefined) setNumThreads(resolved.threads);
    return new IPAdapterPipeline(resolved, loadPipelineModels(resolved));
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
  async generate(options: PromptOptions = {}, context: RunContext = {}): Promise<GeneratedImage[]> {
    const { prompt, seed, numImages, ...rest } = resolveOptions(promptOptionsSchema, options);
    const { scale, range, ...images } = onlyOne(
      adapterEntries<ImagePromptOptions>(rest, ['images', 'weights', 'scale', 'range']),
    );
    // One list for all of them, which is then encoded once.
    const imagePrompts = weighted(images);
    const jobs = Array.from({ length: numImages }, (_, i) => ({ prompt, imagePrompts, seed: seed + i }));
    return this.#draw(jobs, { ...rest, scale, range }, context);
  }

  /** A picture for each job, in the jobs' order; options and errors as for `generate`. */
  async generateEach(
    jobs: readonly Job[],
    options: DrawOptions = {},
    context: RunContext = {},
  ): Promise<GeneratedImage[]> {
    const draw = resolveOptions(drawOptionsSchema, options);
    const resolved = jobs.map((job) => {
      const { prompt, seed, ...images } = resolveOptions(jobSchema, job);
      return { prompt, seed, imagePrompts: weighted(images) };
    });
    return this.#draw(resolved, draw, context);
  }

  /** Lets go of the models' memory, now and not when the garbage collector comes; the pipeline is of no use then. */
  [Symbol.dispose](): void {
    this.#models[Symbol.dispose]();
  }

  async #draw(
    jobs: readonly ResolvedJob[],
    draw: ResolvedDrawOptions,
    context: RunContext,
  ): Promise<GeneratedImage[]> {
    const { scale = 1, range = [0, 1] } = draw;
    const settings = { ...draw, scale, range, ...this.#sizeOf(draw) };
    const batches = Math.ceil(jobs.length / draw.batchSize);
    return withContext(context, async ({ signal, emit }) => {
      const pictures: GeneratedImage[] = [];
      for (let i = 0; i < batches; i++) {
        const batch = jobs.slice(i * draw.batchSize, (i + 1) * draw.batchSize);
        const onStep: DenoiseHooks['onStep'] = ({ step, totalSteps }) =>
          emit({ type: 'progress', done: i * totalSteps + step, total: batches * totalSteps });
        pictures.push(...(await this.#drawBatch(batch, settings, { signal, onStep })));
      }
      return pictures;
    });
  }

  async #drawBatch(
    jobs: readonly ResolvedJob[],
    draw: ResolvedDrawOptions & ImageSettings & Size,
    hooks: DenoiseHooks,
  ): Promise<GeneratedImage[]> {
    hooks.signal?.throwIfAborted();
    const sampler = createSampler(this.#models.scheduler, draw.scheduler);
    const name = draw.scheduler ?? sampler.constructor.name;
    const prompts = await makePrompts(this.#models, jobs, draw);
    try {
      const seeds = jobs.map(({ seed }) => seed);
      const pictures = await drawPictures(this.#models, sampler, prompts, seeds, draw, hooks);
      return pictures.map(({ data, width, height }, i) => {
        const job = jobs[i] as ResolvedJob;
        const parameters = parametersOf(job, draw, { ...this.#options, sampler: name });
        return new GeneratedImage(data, width, height, job.seed, parameters);
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

/** The models of the one adapter that can be loaded. */
function modelsOf({ adapters, ...options }: z.output<typeof pipelineOptionsSchema>) {
  const entry = onlyOne(adapterEntries<LoadedAdapter>({ adapters, ...options }, ['adapter', 'imageEncoder']));
  return { ...options, ...entry };
}

/** @throws ConfigError for two: only one adapter can act yet */
function onlyOne<T>(entries: readonly T[]): Partial<T> {
  if (entries.length > 1)
    throw new ConfigError(`adapters has ${entries.length} entries; more than one is not supported yet`);
  return entries[0] ?? {};
}

function describe({ kind, module: { image_proj: projection } }: OpenedAdapter): string {
  const tokens =
    projection.numTokens === null ? 'an image token for each' : `${projection.numTokens} image tokens`;
  const features = kind.feature === 'pooled' ? 'an embedding' : 'hidden states';
  return `${kind.title}: ${tokens}, from ${features} ${projection.embeddingDim} wide`;
}
