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
import { adapterFile } from '../adapters/adapter-path.js';
import { peerLimits } from '../adapters/peer-limits.js';
import { Deferred } from '../base/deferred.js';
import { TrainingError } from '../base/errors.js';
import { type GuardedContext, type RunContext, withContext } from '../base/run-context.js';
import type { BadRow } from '../data/bad-rows.js';
import type { Batch, DataLoader } from '../data/data-loader.js';
import type { Dataset, DatasetRow } from '../data/dataset.js';
import { openDataset } from '../data/open-dataset.js';
import { rowBuckets } from '../data/row-buckets.js';
import { readRowSizes } from '../data/row-sizes.js';
import { downloadModels } from '../diffusion/download-models.js';
import type { Size } from '../images/image.js';
import { resolveOptions } from '../options/options.js';
import { trainOptionsSchema } from '../options/train-options.js';
import type { TrainOptions } from '../options/train-types.js';
import { Generator, graphed, setNumThreads, type Tensor, torchVersion } from '../torch/index.js';
import { assertCudaGraphs, resolveTarget } from '../torch/target.js';
import { findCheckpoint, loadCheckpoint, type TrainingState } from './checkpoints/checkpoint.js';
import { restoreReplaced } from './checkpoints/folder.js';
import { CheckpointKeeper } from './checkpoints/keeper.js';
import { assertSameRun } from './checkpoints/resume.js';
import { lockRun, type RunLock } from './checkpoints/run-lock.js';
import { saveOptions } from './checkpoints/saved-options.js';
import { openEncoders } from './encodings/encoders.js';
import { rowSizeConditioning } from './encodings/row-sizes.js';
import { NanGuard, NonFiniteError } from './nan-guard.js';
import { createOptimization, describeSchedule, restoreOptimization, stateOf } from './optimization.js';
import { StepReporter } from './reports/step-reporter.js';
import { createAdapter, createLoader, openModels, type TrainingModels, trainingModels } from './setup.js';
import { gradientAdder, stepOrRestore, TornStepError, type Training } from './step.js';
import { openValidation, type Validation } from './validation.js';

export interface TrainResult {
  step: number;
  /** The folder of the last checkpoint. */
  checkpoint: string;
  /** Rows that were skipped: incomplete ones, and those whose picture could not be read. */
  badRows: BadRow[];
}

/** Of the frozen models, by the original's names; what is trained stays in float32. */
const dtypes = { no: 'float32', fp16: 'float16', bf16: 'bfloat16' } as const;

/** A run before its first step: what can be wrong has been found, and nothing written but a dataset from a pipe. */
export interface PreparedRun {
  lock: RunLock;
  training: Omit<Training, 'encoders'> & { models: TrainingModels };
  /** Where the frozen models run, and in which precision. */
  target: ReturnType<typeof resolveTarget>;
  dataset: Dataset;
  loader: DataLoader;
  /** The size of each row's training picture, with `--buckets`. */
  buckets: Size[] | undefined;
  /** Where the run starts. */
  state: TrainingState;
  /** The checkpoint that it goes on from, and the steps that its run was to have. */
  resumed: string | undefined;
  savedTotalSteps: number | undefined;
  validation: Validation | undefined;
}

/**
 * Trains, and returns after the last step with its checkpoint written. An abort of the context's signal ends training
 * after the step under way, with a checkpoint; before the first step it throws its reason.
 */
export async function train(options: TrainOptions, context: RunContext = {}): Promise<TrainResult> {
  return withContext(context, (guarded) => withRun(options, guarded, (run) => runSteps(run, guarded)));
}

/** Loads and checks all that a run needs, has `work` done with it, and lets go of it. */
export async function withRun<T>(
  options: TrainOptions,
  context: GuardedContext,
  work: (run: PreparedRun) => Promise<T>,
): Promise<T> {
  const config = resolveOptions(trainOptionsSchema, options);
  const target = resolveTarget({ device: config.device, dtype: dtypes[config.mixedPrecision] });
  if (config.cudaGraphs) assertCudaGraphs(target.device);
  if (config.threads !== undefined) setNumThreads(config.threads);

  // Everything that can be wrong is found before anything is written, but for the lock, which goes again.
  using lock = await lockRun(config.outputDir, context);
  restoreReplaced(config.outputDir);
  const resumed = findCheckpoint(config.outputDir, config.resume);
  const dataset = await openDataset(config, { ...context, outputDir: config.outputDir });
  const { rows } = dataset;
  const state: TrainingState = {
    step: 0,
    totalSteps: 0,
    updates: 0,
    epoch: 0,
    position: 0,
    dataset: { rows: rows.length, fingerprint: dataset.fingerprint },
    // The noise of a GPU is another than that of the CPU; which GPU does not matter.
    options: { ...config, device: target.device.replace(/:.*/, '') },
  };
  using deferred = new Deferred();
  /** Nothing of a run is left in memory, however it ends: the next one may need all of a GPU. */
  const releaseAtEnd = (tensors: () => Iterable<Tensor>): void =>
    deferred.add(() => {
      for (const tensor of tensors()) tensor.dispose();
    });
  const saved = resumed === undefined ? undefined : loadCheckpoint(resumed);
  if (saved !== undefined) releaseAtEnd(() => saved.optimizer.values());
  if (saved !== undefined) assertSameRun(saved.state, state, { path: resumed as string, ...context });
  const { model: stableDiffusion, imageEncoder } = config;
  const startFrom = resumed === undefined ? config.adapter : join(resumed, adapterFile);
  await downloadModels({ stableDiffusion, imageEncoder, adapter: startFrom }, context);
  const partOptions = { ...target, onMessage: context.onMessage };
  const opened = openModels(stableDiffusion, imageEncoder, partOptions);
  deferred.add(() => {
    for (const part of [opened.backbone, opened.objective]) part[Symbol.dispose]();
  });
  const generator = new Generator(target.device, config.seed);
  const { adapter, kind } = createAdapter(opened, config, startFrom, target.device);
  deferred.add(() => adapter[Symbol.dispose]());
  if (startFrom === undefined) peerLimits(adapter.namedParameters()).forEach(context.onMessage);
  // What was chosen for the options that were left out.
  Object.assign(state.options, { kind: kind.name, numTokens: adapter.image_proj.numTokens ?? undefined });
  const needsSizes = config.buckets || opened.model.sizeConditioning !== null;
  const sizes = needsSizes ? await readRowSizes(rows, context) : [];
  const buckets = config.buckets ? rowBuckets(sizes, config.resolution, context.onMessage) : undefined;
  const square = { width: config.resolution, height: config.resolution };
  const targetOf = (row: number): Size => buckets?.[row] ?? square;
  const sizesOf = rowSizeConditioning(opened.model, sizes, targetOf, target.device);
  const models = trainingModels(opened, kind, sizesOf, {
    ...partOptions,
    rowsAtOnce: config.batchSize,
    cudaGraphs: config.cudaGraphs,
  });
  const loader = createLoader(models, config, rows, buckets);
  state.totalSteps = config.maxSteps ?? config.epochs * loader.batchesPerEpoch;
  const optimization = createOptimization(adapter.namedParameters(), config, state.totalSteps);
  releaseAtEnd(() => stateOf(optimization));
  if (saved !== undefined) {
    restoreOptimization(optimization, saved, resumed as string);
    generator.setState(saved.generator, resumed as string);
    const { step, epoch, position } = saved.state;
    Object.assign(state, { step, epoch, position });
    // They hold the checkpoint's file, which may be deleted by the run.
    for (const tensor of saved.optimizer.values()) tensor.dispose();
  }
  using validation = await openValidation(
    models.backbone,
    { module: adapter, kind, file: config.outputDir },
    config,
    {
      ...context,
      ...target,
      step: state.step,
    },
  );
  const guard = new NanGuard(config.maxNanSteps, (row) => (rows.at(row) as DatasetRow).image.name, {
    device: target.device,
    ...context,
  });
  const training = { config, models, adapter, generator, guard, ...optimization };
  const savedTotalSteps = saved?.state.totalSteps;
  const place = { state, resumed, savedTotalSteps };
  return await work({ lock, training, target, dataset, loader, buckets, validation, ...place });
}

/** The steps of a run, with what it writes on the way. */
async function runSteps(run: PreparedRun, context: GuardedContext): Promise<TrainResult> {
  const { target, dataset, loader, buckets, state, resumed, validation } = run;
  const { config, models, adapter, generator, guard } = run.training;
  const { rows } = dataset;
  const { totalSteps } = state;
  const parameters = adapter.namedParameters();
  using encoders = await openEncoders(models, {
    cached: config.cache ?? [],
    cacheDir: config.cacheDir ?? join(config.outputDir, 'cache'),
    resolution: config.resolution,
    randomFlip: config.randomFlip,
    buckets,
    rows,
    loader,
    target,
    ...context,
  });

  // Loading held the thread: a signal of that time is heard in the next turn of the event loop, not in this one.
  for (let turn = 0; turn < 2; turn++) await setImmediate();
  context.signal.throwIfAborted();
  saveOptions(config.outputDir, config);
  const keeper = new CheckpointKeeper(
    config.outputDir,
    config.checkpointsTotalLimit,
    resumed,
    context.onMessage,
  );
  const addGradients = config.cudaGraphs ? graphed(gradientAdder(run.training)) : undefined;
  const training: Training = { ...run.training, encoders, addGradients };

  const trained = adapter.parameters().reduce((sum, { numel }) => sum + numel, 0);
  context.onMessage(
    `Training ${trained.toLocaleString('en')} parameters on ${rows.length} rows, ${target.device}, LibTorch ${torchVersion()}` +
      (resumed === undefined ? '' : `, from step ${state.step} of ${resumed}`),
  );
  const schedule = describeSchedule(config, totalSteps, run.savedTotalSteps);
  if (schedule !== null) context.onMessage(schedule);
  using reporter = new StepReporter(config, context, loader.badRows, {
    step: state.step,
    totalSteps,
    numTrainTimesteps: models.objective.numTrainTimesteps,
    ...target,
  });
  const firstStep = state.step;
  let savedStep = resumed === undefined ? -1 : firstStep;
  const save = (isLast: boolean): void => {
    run.lock.assertHeld();
    guard.settle();
    // First, so that a run that is killed and resumed has told of every step.
    reporter.flush();
    const { optimizer, ema, scaler } = training;
    const content = {
      state: { ...state, updates: optimizer.steps, gradScaler: scaler?.stateDict() },
      adapter: parameters,
      ema: ema?.stateDict(),
      optimizer: optimizer.stateDict(),
      generator: generator.getState(),
    };
    if (!keeper.save(content, isLast)) return;
    savedStep = state.step;
    context.emit({ type: 'checkpoint', step: state.step, path: keeper.newest as string });
  };

  // Steps that are given are made in as many epochs as they take.
  const epochs = config.maxSteps === undefined ? config.epochs : Number.POSITIVE_INFINITY;
  try {
    const batches = batchesFrom(loader, state, state.step < totalSteps ? epochs : 0);
    for await (const batch of reporter.timed(batches)) {
      const metrics = stepOrRestore(training, batch, state.step + 1);
      state.epoch = batch.epoch;
      state.position = batch.nextPosition;
      // A batch that was skipped is no step.
      if (metrics !== null) {
        state.step++;
        reporter.add(metrics, batch.rows.length);
        if (state.step % config.saveSteps === 0) save(false);
        if (state.step % config.validationSteps === 0) {
          guard.settle();
          await validation?.draw(state.step, reporter);
        }
      }
      // Here pictures arrive and Ctrl-C is heard: the engine holds the thread for a whole step.
      await setImmediate();
      // Before another batch is read, which a run that is complete must not fail for.
      if (state.step >= totalSteps || context.signal.aborted) break;
    }
    if (savedStep !== state.step) save(true);
    else if (state.step === firstStep)
      context.onMessage(
        `Nothing is left to do: ${resumed} has all ${state.step} steps of the run. To train on, give more --max-steps or --epochs`,
      );
    await validation?.draw(state.step, reporter);
  } catch (error) {
    // Not saved: it may be the step before that has spoilt the weights, without making them infinite.
    if (error instanceof NonFiniteError || error instanceof TornStepError)
      throw new TrainingError(`${error.message}; ${keeper.resumeHint()}`, { cause: error });
    const hasUnsavedSteps = state.step > firstStep && state.step !== savedStep;
    throw keeper.saveAfter(error, state.step + 1, hasUnsavedSteps ? () => save(true) : undefined);
  } finally {
    reporter.flush();
  }
  reporter.finish();
  const badRows = [...dataset.incomplete, ...loader.badRows.values()];
  return { step: state.step, checkpoint: keeper.newest as string, badRows };
}

/** The batches of all epochs that are left, from the place in the data that `state` has at the start. */
export async function* batchesFrom(
  loader: DataLoader,
  { epoch, position }: TrainingState,
  epochs: number,
): AsyncGenerator<Batch> {
  for (let next = epoch; next < epochs; next++) yield* loader.batches(next, next === epoch ? position : 0);
}
