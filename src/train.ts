/**
 * @file THE training loop of an IP-Adapter Plus (tencent-ailab/IP-Adapter tutorial_train_plus.py):
 *
 *     picture ─► VAE ─► latents ─► + noise at a timestep ─┐
 *     picture ─► image encoder ─► Resampler ─► image tokens ─► UNet with both attentions ─► loss ─► AdamW
 *     caption ─► text encoder ─► text states ─────────────┘
 *
 * That is one step, see train-step.ts. Trained are the Resampler and the UNet's new `to_k_ip`, `to_v_ip`; everything
 * else is frozen.
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
import { type FrozenModels, loadFrozenModels } from './frozen-models.js';
import { loadAdapter } from './ip-adapter/adapter-file.js';
import { IPAdapter } from './ip-adapter/ip-adapter.js';
import { Resampler } from './ip-adapter/resampler.js';
import {
  createOptimization,
  describeSchedule,
  type Optimization,
  restoreOptimization,
} from './optimization.js';
import { flagOf, resolveOptions } from './options.js';
import { saveOptions } from './saved-options.js';
import { type ReportHooks, StepReporter } from './step-reporter.js';
import { resolveTarget } from './target.js';
import { type Device, Generator, setNumThreads, torchVersion } from './torch/index.js';
import { type Training, trainStep } from './train-step.js';
import { openValidation } from './validation.js';

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
    rowsAtOnce: config.trainBatchSize,
    onMessage: hooks.onMessage,
  });
  const generator = new Generator(target.device, config.seed);
  const startFrom = resumed === undefined ? config.pretrainedIpAdapterPath : join(resumed, adapterFile);
  const adapter = createAdapter(models, config, startFrom, target.device);
  const parameters = adapter.namedParameters();
  const buckets = config.buckets ? await readBuckets(rows, config.resolution, hooks) : undefined;
  const loader = createLoader(models, config, rows, buckets);
  const totalSteps = Math.min(
    config.maxTrainSteps ?? Number.POSITIVE_INFINITY,
    config.numTrainEpochs * loader.batchesPerEpoch,
  );
  const optimization = createOptimization(parameters, config, totalSteps);
  const state: TrainingState = {
    step: 0,
    totalSteps,
    updates: 0,
    epoch: 0,
    position: 0,
    dataset: dataset.fingerprint,
    options: config,
  };
  const savedTotalSteps =
    resumed === undefined ? totalSteps : restore(resumed, state, optimization, generator);
  using validation = await openValidation(models.unet, adapter, config, {
    ...hooks,
    ...target,
    step: state.step,
  });
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
  const training: Training = { config, models, encoders, adapter, generator, ...optimization };
  const { optimizer, ema, scaler } = training;
  let checkpoint = resumed;
  let savedStep = resumed === undefined ? -1 : state.step;
  const save = (): void => {
    const content = {
      state: { ...state, updates: optimizer.steps, gradScaler: scaler?.stateDict() },
      adapter: parameters,
      ema: ema?.stateDict(),
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
  const schedule = describeSchedule(config, totalSteps, savedTotalSteps);
  if (schedule !== null) hooks.onMessage?.(schedule);
  using reporter = new StepReporter(config, hooks, loader.badRows, {
    step: state.step,
    totalSteps,
    numTrainTimesteps: models.scheduler.numTrainTimesteps,
  });
  adapter.attach();
  try {
    for await (const batch of reporter.timed(batchesFrom(loader, state, config.numTrainEpochs))) {
      if (state.step >= totalSteps) break;
      const metrics = trainStep(training, batch);
      state.step++;
      state.epoch = batch.epoch;
      state.position = batch.nextPosition;
      reporter.add(metrics, batch.rows.length);
      if (state.step % config.saveSteps === 0) save();
      if (state.step % config.validationSteps === 0) await validation?.draw(state.step, reporter);
      // Here pictures arrive and Ctrl-C is heard: the engine holds the thread for a whole step.
      await setImmediate();
      if (hooks.signal?.aborted) break;
    }
    reporter.flush();
    if (savedStep !== state.step) save();
    await validation?.draw(state.step, reporter);
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
  const { resolution, randomFlip, trainBatchSize, gradientAccumulationSteps, seed, cache = [] } = config;
  return new DataLoader({
    rows,
    tokenizer,
    imageProcessor,
    resolution,
    buckets,
    randomFlip,
    batchSize: trainBatchSize * gradientAccumulationSteps,
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
  'gradientAccumulationSteps',
  'mixedPrecision',
  'seed',
  'lrScheduler',
  'lrWarmupSteps',
  'lrNumCycles',
  'lrPower',
  'adamBeta1',
  'adamBeta2',
  'adamEpsilon',
  'maxGradNorm',
  'useEma',
  'emaDecay',
  'snrGamma',
  'noiseOffset',
  'timestepSampling',
  'logitMean',
  'logitStd',
] as const;

/** @returns the steps that the checkpoint's run was to have */
function restore(
  path: string,
  state: TrainingState,
  optimization: Optimization,
  generator: Generator,
): number {
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
  restoreOptimization(optimization, checkpoint, path);
  generator.setState(checkpoint.generator);
  Object.assign(state, { step: saved.step, epoch: saved.epoch, position: saved.position });
  return saved.totalSteps;
}
