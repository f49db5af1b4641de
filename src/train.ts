/**
 * @file THE training loop of an IP-Adapter Plus (tencent-ailab/IP-Adapter tutorial_train_plus.py):
 *
 *     picture ─► VAE ─► latents ─► + noise at a timestep ─┐
 *     picture ─► image encoder ─► Resampler ─► image tokens ─► UNet with both attentions ─► loss ─► AdamW
 *     caption ─► text encoder ─► text states ─────────────┘
 *
 * Trained are the Resampler and the UNet's new `to_k_ip`, `to_v_ip`; everything else is frozen.
 */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { openEncoders } from './cache/encoders.js';
import {
  adapterFile,
  adapterFileOf,
  findCheckpoint,
  loadCheckpoint,
  saveCheckpoint,
  type TrainingState,
} from './checkpoint.js';
import { parts, type ResolvedTrainOptions, type TrainOptions, trainOptionsSchema } from './config.js';
import type { BadRow } from './data/bad-rows.js';
import { type Batch, DataLoader } from './data/data-loader.js';
import type { Rows } from './data/dataset.js';
import type { Size } from './data/image.js';
import { openDataset } from './data/open-dataset.js';
import { readBuckets } from './data/row-buckets.js';
import { downloadModels } from './download-models.js';
import { ConfigError } from './errors.js';
import { type EncodedBatch, encodeBatch, type FrozenModels, loadFrozenModels } from './frozen-models.js';
import { loadAdapter } from './ip-adapter/adapter-file.js';
import { IPAdapter } from './ip-adapter/ip-adapter.js';
import { Resampler } from './ip-adapter/resampler.js';
import { mseLoss } from './nn/functional.js';
import { AdamW } from './optim/adamw.js';
import { flagOf, resolveOptions } from './options.js';
import { saveOptions } from './saved-options.js';
import { type ReportHooks, StepReporter } from './step-reporter.js';
import { resolveTarget } from './target.js';
import {
  backward,
  cat,
  type Device,
  Generator,
  randint,
  randn,
  setNumThreads,
  type Tensor,
  tidy,
  torchVersion,
} from './torch/index.js';

/** What a caller can watch and stop. */
export interface TrainHooks extends ReportHooks {
  /** Ends training after the step under way, with a checkpoint; before the first step, by throwing its reason. */
  signal?: AbortSignal;
}

export interface TrainResult {
  step: number;
  /** The folder of the last checkpoint. */
  checkpoint: string;
  /** Rows that were skipped: incomplete ones, and those whose picture could not be read. */
  badRows: BadRow[];
}

/** Of the frozen models, by the original's names; what is trained stays in float32. */
const dtypes = { no: 'float32', fp16: 'float16', bf16: 'bfloat16' } as const;

/** Trains, and returns after the last step with its checkpoint written. */
export async function train(options: TrainOptions, hooks: TrainHooks = {}): Promise<TrainResult> {
  const config = resolveOptions(trainOptionsSchema, options);
  const target = resolveTarget({ device: config.device, dtype: dtypes[config.mixedPrecision] });
  if (config.threads !== undefined) setNumThreads(config.threads);

  // Everything that can be wrong is found before anything is written.
  const resumed = findCheckpoint(config.outputDir, config.resume);
  const dataset = await openDataset(config, { ...hooks, spoolFolder: config.outputDir });
  const { rows } = dataset;
  const { pretrainedModelNameOrPath: stableDiffusion, imageEncoderPath: imageEncoder } = config;
  await downloadModels({ stableDiffusion, imageEncoder, adapter: config.pretrainedIpAdapterPath }, hooks);
  const models = loadFrozenModels(stableDiffusion, imageEncoder, {
    ...target,
    onMessage: hooks.onMessage,
  });
  const generator = new Generator(target.device, config.seed);
  const startFrom = resumed === undefined ? config.pretrainedIpAdapterPath : join(resumed, adapterFile);
  const adapter = createAdapter(models, config, startFrom, target.device);
  const parameters = adapter.namedParameters();
  const optimizer = new AdamW(parameters, {
    learningRate: config.learningRate,
    weightDecay: config.weightDecay,
  });
  const buckets = config.buckets ? await readBuckets(rows, config.resolution, hooks) : undefined;
  const loader = createLoader(models, config, rows, buckets);
  const state: TrainingState = {
    step: 0,
    epoch: 0,
    position: 0,
    dataset: dataset.fingerprint,
    options: config,
  };
  if (resumed !== undefined) restore(resumed, state, optimizer, generator);
  using encoders = await openEncoders(models, {
    cached: config.cache ?? [],
    cacheDir: config.cacheDir ?? join(config.outputDir, 'cache'),
    resolution: config.resolution,
    randomFlip: config.randomFlip,
    buckets,
    rows,
    loader,
    target,
    ...hooks,
  });

  saveOptions(config.outputDir, config);
  const totalSteps = Math.min(
    config.maxTrainSteps ?? Number.POSITIVE_INFINITY,
    config.numTrainEpochs * loader.batchesPerEpoch,
  );
  let checkpoint = resumed;
  let savedStep = resumed === undefined ? -1 : state.step;
  const save = (): void => {
    const content = {
      state,
      adapter: parameters,
      optimizer: optimizer.stateDict(),
      generator: generator.getState(),
    };
    checkpoint = saveCheckpoint(config.outputDir, content);
    savedStep = state.step;
    hooks.onMessage?.(`Saved ${checkpoint}`);
  };

  const trained = adapter.parameters().reduce((sum, { numel }) => sum + numel, 0);
  hooks.onMessage?.(
    `Training ${trained.toLocaleString('en')} parameters on ${rows.length} rows, ${target.device}, LibTorch ${torchVersion}` +
      (resumed === undefined ? '' : `, from step ${state.step} of ${resumed}`),
  );
  const reporter = new StepReporter(config.outputDir, hooks, loader.badRows, {
    step: state.step,
    totalSteps,
  });
  adapter.attach();
  try {
    for await (const batch of batchesFrom(loader, state, config.numTrainEpochs)) {
      if (state.step >= totalSteps) break;
      const loss = tidy(() => {
        const encoded = encodeBatch(encoders, models, batch, generator);
        const loss = trainingLoss(models, adapter, {
          ...encoded,
          ...drawNoise(models, encoded.latents, generator),
        });
        backward(loss);
        optimizer.step();
        optimizer.zeroGrad();
        return loss.detach();
      });
      state.step++;
      state.epoch = batch.epoch;
      state.position = batch.nextPosition;
      reporter.add(loss, batch.rows.length);
      if (state.step % config.saveSteps === 0) save();
      // Here pictures arrive and Ctrl-C is heard: the engine holds the thread for a whole step.
      await setImmediate();
      if (hooks.signal?.aborted) break;
    }
    reporter.flush();
    if (savedStep !== state.step) save();
  } finally {
    adapter.detach();
  }
  const badRows = [...dataset.incomplete, ...loader.badRows.values()];
  return { step: state.step, checkpoint: checkpoint as string, badRows };
}

/** The batches of all epochs that are left, from the place in the data that `state` has at the start. */
async function* batchesFrom(
  loader: DataLoader,
  { epoch, position }: TrainingState,
  epochs: number,
): AsyncGenerator<Batch> {
  yield* loader.batches(epoch, position);
  for (let next = epoch + 1; next < epochs; next++) yield* loader.batches(next);
}

/** What the loss of a step is made of. */
export interface StepInputs extends EncodedBatch {
  /** Standard normal, the latents' shape. */
  noise: Tensor;
  /** int64 [b], 0 ≤ t < num_train_timesteps */
  timesteps: Tensor;
}

function drawNoise(
  { scheduler }: FrozenModels,
  { shape, device }: Tensor,
  generator: Generator,
): Pick<StepInputs, 'noise' | 'timesteps'> {
  return {
    noise: randn(shape, { generator, device }),
    timesteps: randint(0, scheduler.numTrainTimesteps, [shape[0] as number], { generator, device }),
  };
}

/** The mean squared error between the UNet's prediction and its target, a float32 scalar. */
export function trainingLoss(
  { unet, scheduler }: Pick<FrozenModels, 'unet' | 'scheduler'>,
  adapter: IPAdapter,
  { latents, noise, timesteps, textStates, imageFeatures }: StepInputs,
): Tensor {
  const noisyLatents = scheduler.addNoise(latents, noise, timesteps).to(textStates.dtype);
  const imageTokens = adapter.call(imageFeatures).to(textStates.dtype);
  const prediction = unet.call(noisyLatents, timesteps, cat([textStates, imageTokens], 1));
  return mseLoss(prediction.to('float32'), scheduler.target(latents, noise, timesteps));
}

/** The original's: SD 1.5 and ViT-H give 49,087,488 parameters. */
function createAdapter(
  { unet, imageFeatureSize }: FrozenModels,
  config: ResolvedTrainOptions,
  startFrom: string | undefined,
  device: Device,
): IPAdapter {
  const dim = unet.config.crossAttentionDim[0] as number;
  const adapter = new IPAdapter(
    unet,
    new Resampler({
      dim,
      depth: 4,
      dimHead: 64,
      heads: 12,
      numQueries: config.numTokens,
      embeddingDim: imageFeatureSize,
      outputDim: dim,
      ffMult: 4,
    }),
  );
  if (startFrom === undefined) adapter.init(new Generator('cpu', config.seed));
  else loadAdapter(adapter, adapterFileOf(startFrom));
  adapter.to({ device });
  return adapter.requiresGrad_(true);
}

function createLoader(
  { tokenizer, imageProcessor, encoders }: FrozenModels,
  config: ResolvedTrainOptions,
  rows: Rows,
  buckets: Size[] | undefined,
): DataLoader {
  const { resolution, randomFlip, trainBatchSize: batchSize, seed, cache = [] } = config;
  return new DataLoader({
    rows,
    tokenizer,
    imageProcessor,
    resolution,
    buckets,
    randomFlip,
    batchSize,
    // A picture in a tar takes three turns: read, header, pixels; and the engine gives one a step.
    prefetch: config.dataloaderNumWorkers || 3,
    seed,
    // What is cached takes nothing of the rows.
    inputs: parts.filter((part) => !cache.includes(part)).map((part) => encoders[part].input),
  });
}

/** Options without which a resumed run would be another run. */
const bindingOptions = [
  'numTokens',
  'resolution',
  'buckets',
  'randomFlip',
  'trainBatchSize',
  'mixedPrecision',
  'seed',
] as const;

function restore(path: string, state: TrainingState, optimizer: AdamW, generator: Generator): void {
  const checkpoint = loadCheckpoint(path);
  const saved = checkpoint.state;
  for (const key of bindingOptions) {
    // What a checkpoint says nothing of came later, and had its default.
    const before = trainOptionsSchema.shape[key].parse(saved.options[key]);
    if (before !== state.options[key])
      throw new ConfigError(
        `${flagOf(key)} is ${state.options[key]} but ${path} was trained with ${before}; give the same to resume`,
      );
  }
  if (saved.dataset !== state.dataset)
    throw new ConfigError(
      `The dataset is not the one that ${path} was trained on; give the same to resume, or start afresh from its adapter with --pretrained-ip-adapter-path`,
    );
  optimizer.loadStateDict(checkpoint.optimizer, saved.step, path);
  generator.setState(checkpoint.generator);
  Object.assign(state, { step: saved.step, epoch: saved.epoch, position: saved.position });
}
