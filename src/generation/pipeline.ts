/** @file IPAdapterPipeline: models loaded once, images generated as often as needed. Nothing is printed. */

import type { z } from 'zod';
import { clipSkipWarnings, contextDimOf, type OpenedAdapter } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import { Queue } from '../base/queue.js';
import type { Size } from '../base/rgb-image.js';
import { type GuardedContext, type RunContext, withContext } from '../base/run-context.js';
import { downloadModels } from '../diffusion/download-models.js';
import {
  adapterEntries,
  adapterKeys,
  drawOptionsSchema,
  jobSchema,
  type LoadedAdapter,
  pipelineOptionsSchema,
  promptOptionsSchema,
  type ResolvedDrawOptions,
  type ResolvedJob,
  referenceKeys,
  weighted,
} from '../options/generate-options.js';
import type {
  AdapterFiles,
  DrawOptions,
  Job,
  PipelineOptions,
  PromptOptions,
} from '../options/generate-types.js';
import { resolveOptions } from '../options/options.js';
import { assertConsistent } from '../options/reference-options.js';
import type { ReferenceSettings, References } from '../options/reference-types.js';
import { createSampler } from '../schedulers/create.js';
import { setNumThreads, type Tensor, tidy } from '../torch/index.js';
import { makePrompts, releaseTensors } from './conditions.js';
import type { DenoiseHooks, Prompts } from './denoise.js';
import { drawImages } from './draw.js';
import { GeneratedImage, parametersOf } from './generated-image.js';
import { loadPipelineModels, type PipelineModels, type ResolvedPipelineOptions } from './pipeline-models.js';
import { denoisedLatents, fitPreview, previewOf } from './preview.js';
import { assertSourceOptions, encodeSources, readSources, resizeMessages, sizeOf } from './sources.js';
import { optionsOf, storedSettings } from './stored-settings.js';
import { truncationWarning } from './truncation-warning.js';
import { without } from './without.js';

/** Generates images that follow text and reference images. Calls may overlap: their batches are drawn in turn. */
export class IPAdapterPipeline implements Disposable {
  #options: ResolvedPipelineOptions;
  readonly #models: PipelineModels;
  /** From latents to colours, made at the first preview. */
  #previewMap: Tensor | undefined;
  readonly #queue = new Queue();
  /** Calls that have not ended. */
  #drawing = 0;

  private constructor(options: ResolvedPipelineOptions, models: PipelineModels) {
    this.#options = options;
    this.#models = models;
  }

  /**
   * Loads the models; names on the Hub are downloaded where they are not in its cache.
   * @throws ConfigError, CheckpointError where a file is missing or damaged, or model, encoder and adapter do not go
   * together; the signal's reason where it ended a download
   */
  static async load(options: PipelineOptions, context: RunContext = {}): Promise<IPAdapterPipeline> {
    const resolved = modelsOf(resolveOptions(pipelineOptionsSchema, options));
    const { model: stableDiffusion, adapters, controlnet = [], loras = [] } = resolved;
    return withContext(context, async (guarded) => {
      await downloadModels({ stableDiffusion }, guarded);
      for (const entry of adapters) await downloadModels(entry, guarded);
      for (const { path: lora } of loras) await downloadModels({ lora }, guarded);
      for (const name of controlnet) await downloadModels({ controlnet: name }, guarded);
      if (resolved.threads !== undefined) setNumThreads(resolved.threads);
      return new IPAdapterPipeline(resolved, loadPipelineModels(resolved, guarded.onMessage));
    });
  }

  /**
   * Replaces the adapters. The model with its LoRAs and ControlNets stays loaded, and so do image encoders that are named again.
   * @throws ConfigError, CheckpointError as `load`, or where images are being generated; the adapters then stay as they were
   */
  async loadAdapters(adapters: readonly AdapterFiles[], context: RunContext = {}): Promise<void> {
    const resolved = modelsOf(resolveOptions(pipelineOptionsSchema, { ...this.#options, adapters }));
    await withContext(context, async (guarded) => {
      for (const entry of resolved.adapters) await downloadModels(entry, guarded);
      await this.#queue.run(async () => {
        if (this.#drawing > 0)
          throw new ConfigError(
            'Images are being generated with the adapters that are loaded; replace them when these calls have ended',
          );
        this.#models.replaceAdapters(resolved.adapters, guarded.onMessage);
        this.#options = resolved;
      }, guarded.signal);
    });
  }

  /** What was loaded, a line each: the adapters, the model, the device. */
  get summary(): string[] {
    const { adapters, backbone, family, imageSize, device, dtype } = this.#models;
    return [
      ...(adapters.length === 0 ? ['No adapter: images follow the text alone'] : adapters.map(describe)),
      `${family}: ${imageSize} × ${imageSize} pixels, cross-attention ${contextDimOf(backbone.sites)} wide`,
      ...(this.#options.controlnet ?? []).map((name) => `ControlNet: ${name}`),
      `On ${device} in ${dtype}`,
    ];
  }

  /**
   * Generates images of one prompt, the n-th with the seed plus n.
   * @throws ConfigError where an option is unknown or out of range; the signal's reason where it was aborted
   */
  async generate(options: PromptOptions = {}, context: RunContext = {}): Promise<GeneratedImage[]> {
    return collect(this.generateBatches(options, context));
  }

  /** Does the same as `generate`, and yields each batch when it is finished: an interruption loses no finished image. */
  async *generateBatches(
    options: PromptOptions = {},
    context: RunContext = {},
  ): AsyncGenerator<GeneratedImage[]> {
    const { prompt, seed, numImages, ...rest } = resolveOptions(promptOptionsSchema, options);
    const entries = this.#entriesOf<References>(rest, referenceKeys);
    // One list for all jobs, which is then encoded once.
    const imagePrompts = entries.map(weighted);
    const jobs = Array.from({ length: numImages }, (_, i) => ({ prompt, imagePrompts, seed: seed + i }));
    yield* this.#draw(jobs, rest, entries, context);
  }

  /**
   * Generates an image for each job, in the jobs' order; options and errors as for `generate`. In a batch an image may
   * differ by one level of 255 from the same image in another batch: matrix products of another size are rounded
   * differently.
   */
  async generateEach(
    jobs: readonly Job[],
    options: DrawOptions = {},
    context: RunContext = {},
  ): Promise<GeneratedImage[]> {
    const draw = resolveOptions(drawOptionsSchema, options);
    const entries = this.#entriesOf<References>(draw, referenceKeys);
    // A job that is given again shares its lists of images, which are then encoded once.
    const resolved = new Map(
      Array.from(new Set(jobs), (job): [Job, ResolvedJob] => {
        const { prompt, seed, ...images } = resolveOptions(jobSchema, job);
        const lists = this.#entriesOf<References>(images, referenceKeys);
        return [job, { prompt, seed, imagePrompts: lists.map(weighted) }];
      }),
    );
    const all = jobs.map((job) => resolved.get(job) as ResolvedJob);
    return collect(this.#draw(all, draw, entries, context));
  }

  /**
   * Releases the models' memory now instead of at garbage collection; where a batch is being drawn, after its step. Calls that
   * have not ended, and later ones, end with a ConfigError.
   */
  [Symbol.dispose](): void {
    this.#queue.close(
      new ConfigError('The pipeline is disposed: its models are released. Load another one.'),
      () => this.#models[Symbol.dispose](),
    );
  }

  /** An entry for each loaded adapter. @throws ConfigError where there are more or fewer */
  #entriesOf<E extends References>(
    options: E & { adapters?: readonly E[] | undefined },
    keys: readonly (keyof E & string)[],
  ): E[] {
    const count = this.#models.adapters.length;
    const entries = adapterEntries<E>(options, keys);
    if (entries.length === 0) return Array.from({ length: count }, () => ({}) as E);
    if (entries.length === count) return entries;
    if (options.adapters !== undefined)
      throw new ConfigError(
        `adapters has ${entries.length} entries for ${count} loaded adapters; give one for each`,
      );
    if (count > 1)
      throw new ConfigError(
        `${Object.keys(entries[0] as E).join(', ')} is for one adapter and ${count} are loaded; give adapters, with an entry for each`,
      );
    if (options.images !== undefined && options.images.length > 0)
      throw new ConfigError('Expected an adapter for image prompts: give --adapter (adapter)');
    return [];
  }

  async *#draw(
    jobs: readonly ResolvedJob[],
    draw: ResolvedDrawOptions,
    entries: readonly References[],
    context: RunContext,
  ): AsyncGenerator<GeneratedImage[]> {
    this.#drawing++;
    using _calls = { [Symbol.dispose]: () => this.#drawing-- };
    entries.forEach(assertConsistent);
    assertSourceOptions(draw, this.#models.controlnets.length);
    const sources = await readSources(draw);
    const settings = { ...draw, ...sizeOf(draw, sources, this.#models) };
    const batches = Math.ceil(jobs.length / draw.batchSize);
    const texts = [...jobs.map(({ prompt }) => prompt), draw.negativePrompt ?? ''];
    const warnings = [
      truncationWarning(this.#models.tokenizer, texts) ?? [],
      this.#models.adapters.flatMap(({ file, trained }) =>
        clipSkipWarnings(file, trained?.clipSkip, draw.clipSkip),
      ),
      resizeMessages(sources, settings),
    ].flat();
    const encoded = await this.#queue.run(async () => encodeSources(this.#models, sources, draw, settings));
    using _ = { [Symbol.dispose]: () => releaseTensors(encoded) };
    for (let i = 0; i < batches; i++) {
      const batch = jobs.slice(i * draw.batchSize, (i + 1) * draw.batchSize);
      yield await withContext(context, ({ signal, emit, onMessage }) => {
        if (i === 0) for (const warning of warnings) onMessage(warning);
        const onStep: DenoiseHooks['onStep'] = ({ step, totalSteps }) =>
          emit({ type: 'progress', done: i * totalSteps + step, total: batches * totalSteps });
        const hooks = { onStep, ...this.#previewer(draw.previewSteps, emit) };
        const drawn = (running: AbortSignal): Promise<GeneratedImage[]> =>
          this.#drawBatch(batch, settings, entries, encoded, { signal: running, ...hooks });
        return this.#queue.run(drawn, signal);
      });
    }
  }

  /** Returns a hook that emits previews, as far as they are wanted. */
  #previewer(
    everySteps: number | undefined,
    emit: GuardedContext['emit'],
  ): Pick<DenoiseHooks, 'onPrediction'> {
    if (everySteps === undefined) return {};
    const { vae, latents: space, scheduler } = this.#models;
    this.#previewMap ??= fitPreview(vae, space.downsample);
    const map = this.#previewMap;
    return {
      onPrediction: ({ step, totalSteps, t, input, prediction }) => {
        if (step % everySteps !== 0) return;
        const images = tidy(() => previewOf(denoisedLatents(scheduler.config, t, input, prediction), map));
        emit({ type: 'preview', step, totalSteps, images });
      },
    };
  }

  async #drawBatch(
    jobs: readonly ResolvedJob[],
    draw: ResolvedDrawOptions & Size,
    references: readonly ReferenceSettings[],
    sources: Pick<Prompts, 'start' | 'controls'>,
    hooks: DenoiseHooks,
  ): Promise<GeneratedImage[]> {
    hooks.signal?.throwIfAborted();
    const sampler = createSampler(this.#models.scheduler, draw.scheduler);
    const { name } = sampler.constructor;
    const prompts = await makePrompts(this.#models, jobs, draw, references);
    try {
      const seeds = jobs.map(({ seed }) => seed);
      const drawn = await drawImages(this.#models, sampler, { ...prompts, ...sources }, seeds, draw, hooks);
      return drawn.map(({ data, width, height }, i) => {
        const job = jobs[i] as ResolvedJob;
        const parameters = parametersOf(job, draw, references, { ...this.#options, sampler: name });
        const options = optionsOf(job, draw, references, this.#options, this.#models.adapters);
        const settings = storedSettings(options, [i, jobs.length], this.#models);
        return new GeneratedImage(data, width, height, job.seed, parameters, settings);
      });
    } finally {
      releaseTensors(prompts);
    }
  }
}

async function collect(batches: AsyncIterable<GeneratedImage[]>): Promise<GeneratedImage[]> {
  const all: GeneratedImage[] = [];
  for await (const batch of batches) all.push(...batch);
  return all;
}

function modelsOf(options: z.output<typeof pipelineOptionsSchema>): ResolvedPipelineOptions {
  const entries = adapterEntries<LoadedAdapter>(options, ['adapter', 'imageEncoder']);
  // An image encoder alone reads images for no adapter.
  const adapters = entries.flatMap(({ adapter, imageEncoder }) =>
    adapter === undefined ? [] : [{ adapter, imageEncoder }],
  );
  return { ...without(options, adapterKeys), adapters };
}

function describe({ kind, module: { image_proj: projection } }: OpenedAdapter): string {
  const tokens =
    projection.numTokens === null ? 'an image token for each' : `${projection.numTokens} image tokens`;
  const features = kind.feature === 'pooled' ? 'an embedding' : 'hidden states';
  return `${kind.title}: ${tokens}, from ${features} ${projection.embeddingDim} wide`;
}
