/** @file Prepares a training run: loads and checks everything that it needs, before anything is written. */
import { join } from 'node:path';
import { trainedWith } from '../adapters/adapter-file.js';
import { adapterFile, adapterFileOf } from '../adapters/adapter-path.js';
import { clipSkipWarnings } from '../adapters/open-adapter.js';
import { peerLimits } from '../adapters/peer-limits.js';
import { Deferred } from '../base/deferred.js';
import type { Size } from '../base/rgb-image.js';
import type { GuardedContext } from '../base/run-context.js';
import type { Batch, DataLoader } from '../data/data-loader.js';
import { type Dataset, type DatasetRow, lazyRows, type Rows } from '../data/dataset.js';
import { defaultOpenShards } from '../data/epoch-order.js';
import { openDataset } from '../data/open-dataset.js';
import { usesMasks } from '../data/reference-options.js';
import { rowBuckets } from '../data/row-buckets.js';
import { readRowSizes } from '../data/row-sizes.js';
import { type TrainRows, trainRows } from '../data/train-rows.js';
import type { ShareOut } from '../data/webdataset.js';
import { downloadModels } from '../diffusion/download-models.js';
import type { ProcessGroup } from '../distributed/process-group.js';
import { alone, onMain, type Processes, sharedInRounds, sharedOut } from '../distributed/processes.js';
import { newestAttentionTable, setAttentionTable } from '../nn/attention-kernel.js';
import { newestConvolutionTable, setConvolutionTable } from '../nn/convolution-kernel.js';
import { resolveOptions } from '../options/options.js';
import { type ResolvedTrainOptions, trainOptionsSchema } from '../options/train-options.js';
import type { TrainOptions } from '../options/train-types.js';
import { type Device, type DType, Generator, setNumThreads, type Tensor } from '../torch/index.js';
import { assertCudaGraphs } from '../torch/target.js';
import {
  assertReducible,
  assertSameDataset,
  assertSameOptions,
  assertSameStart,
  deviceKind,
  lockOfRank0,
  placementOf,
} from './agreement.js';
import { findCheckpoint, loadCheckpoint, type TrainingState } from './checkpoints/checkpoint.js';
import { restoreReplaced } from './checkpoints/folder.js';
import { assertSameRun, savedOpenShards } from './checkpoints/resume.js';
import { lockRun, type RunLock } from './checkpoints/run-lock.js';
import { Drawing } from './drawing.js';
import { rowSizeConditioning } from './encodings/row-sizes.js';
import { holdOut } from './held-out.js';
import { NanGuard } from './nan-guard.js';
import { createOptimization, optimizationTensors, restoreOptimization } from './optimization.js';
import { type ReadableCheckpoint, readableCheckpoint } from './received-checkpoint.js';
import { createAdapter, createLoader, openModels, type TrainingModels, trainingModels } from './setup.js';
import { extraSteps, inheritedRequests } from './steering.js';
import type { Training } from './step.js';
import { openValidation, type Validation } from './validation.js';
import { warningsFor } from './warnings.js';

/** A run before its first step. Only its lock and a dataset from standard input have been written. */
export interface PreparedRun {
  processes: Processes;
  /** The other processes; undefined where there are none. */
  group: ProcessGroup | undefined;
  /** Held by rank 0 for all. */
  lock: RunLock;
  training: Omit<Training, 'encoders'> & { models: TrainingModels };
  /** Device of the run, and dtype of its frozen models. */
  placement: { device: Device; dtype: DType };
  dataset: TrainRows;
  loader: DataLoader;
  /** The size of each row's training image, with `--buckets`. */
  buckets: Size[] | undefined;
  /** Where the run starts: at step 0, or at the step of the checkpoint. */
  state: TrainingState;
  /** The checkpoint that the run resumes from. */
  resumed: string | undefined;
  /** The total number of steps that the checkpoint was saved with. */
  savedTotalSteps: number | undefined;
  /** Generates with the adapter; undefined where nothing is generated. */
  drawing: Drawing | undefined;
  validation: Validation | undefined;
  /** Rows that are not trained on, of `--validation-split` or `--validation-dataset`, and their size conditioning as square images. */
  heldOut: { rows: Rows; sizes: TrainingModels['sizes'] } | undefined;
}

/**
 * Loads and checks everything that a run needs, calls `work` with it, and releases it.
 * @throws ConfigError, CheckpointError, DatasetError where an option or a file is at fault; the signal's reason
 */
export async function withPreparedRun<T>(
  options: TrainOptions,
  context: GuardedContext,
  work: (run: PreparedRun) => Promise<T>,
  group?: ProcessGroup,
): Promise<T> {
  const processes = group ?? alone;
  const config = resolveOptions(trainOptionsSchema, options);
  const placement = placementOf(config, group);
  const { device } = placement;
  await assertSameOptions(processes, config, device);
  if (group !== undefined && device !== 'cpu') await group.connectGpus();
  await assertReducible(config, group, device);
  if (config.cudaGraphs) assertCudaGraphs(device);
  if (config.threads !== undefined) setNumThreads(config.threads);

  using lock = await processes.together(() =>
    processes.isMain ? lockRun(config.outputDir, context) : lockOfRank0,
  );
  const [resumed] = await onMain(processes, () => {
    restoreReplaced(config.outputDir);
    return [findCheckpoint(config.outputDir, config.resume)].filter((path) => path !== undefined);
  });
  // Nothing of a run stays in memory, however it ends: the next one may need the whole GPU.
  using release = new Deferred();
  using readable =
    resumed === undefined
      ? undefined
      : await readableCheckpoint(resumed, group, config.outputDir, context.onMessage);
  const saved = readable && loadCheckpoint(readable.path);
  if (saved !== undefined) release.add(() => disposeAll(saved.optimizer.values()));
  // Other kernels would add in another order than before.
  const attentionTable = saved === undefined ? newestAttentionTable : (saved.state.attentionTable ?? 1);
  setAttentionTable(attentionTable);
  release.add(() => setAttentionTable(newestAttentionTable));
  const convolutionTable = saved === undefined ? newestConvolutionTable : (saved.state.convolutionTable ?? 1);
  setConvolutionTable(convolutionTable);
  release.add(() => setConvolutionTable(newestConvolutionTable));
  config.openShards ??= savedOpenShards(saved?.state) ?? defaultOpenShards;
  config.requests = inheritedRequests(config, saved?.state);
  const { outputDir, openShards } = config;
  const readMasks = usesMasks(config);
  const shareOut: ShareOut | undefined =
    group && ((length, work) => sharedInRounds(group, length, 'shards', work));
  const reading = { ...context, outputDir, openShards, shareOut };
  const whole = await openDataset({ ...config, readMasks }, reading);
  await assertSameDataset(processes, whole);
  const { train, heldOut } = await holdOut(whole, config, reading);
  const dataset = trainRows(train, config, context.onMessage);
  const { rows } = dataset;
  const state = initialState(config, dataset, device, processes);
  state.attentionTable = attentionTable;
  state.convolutionTable = convolutionTable;
  if (saved !== undefined) assertSameRun(saved.state, state, { path: resumed as string, ...context });

  const { model: stableDiffusion, imageEncoder } = config;
  const startFrom = readable === undefined ? config.adapter : join(readable.path, adapterFile);
  // Once on each host.
  const names = { stableDiffusion, imageEncoder, adapter: startFrom };
  await processes.together(() => (processes.localRank === 0 ? downloadModels(names, context) : undefined));
  const startFile = startFrom && adapterFileOf(startFrom, context.onMessage);
  const partOptions = { ...placement, onMessage: context.onMessage };
  const opened = openModels(stableDiffusion, imageEncoder, partOptions);
  release.add(() => {
    for (const part of [opened.backbone, opened.objective]) part[Symbol.dispose]();
  });
  for (const text of warningsFor(config, opened.model.imageSize, rows.length, processes.worldSize))
    context.onMessage(text);
  const generator = new Generator(device, config.seed);
  const { adapter, kind } = createAdapter(opened, config, startFile, device);
  release.add(() => adapter[Symbol.dispose]());
  const remarks =
    startFile === undefined
      ? peerLimits(adapter.namedParameters())
      : clipSkipWarnings(startFile, trainedWith(startFile).clipSkip, config.clipSkip);
  remarks.forEach(context.onMessage);
  // The values that were chosen where these options are unset.
  const chosen = { kind: kind.name, numTokens: adapter.image_proj.numTokens ?? undefined };
  for (const options of [config, state.options]) Object.assign(options, chosen);
  state.imageEncoder = opened.imageEncoder.type;

  const needsSizes = config.buckets || opened.model.sizeConditioning !== null;
  const sizes = needsSizes ? await rowSizes(processes, rows, context) : [];
  const buckets = config.buckets ? rowBuckets(sizes, config.resolution, context.onMessage) : undefined;
  const square = { width: config.resolution, height: config.resolution };
  const trainingSize = (row: number): Size => buckets?.[row] ?? square;
  const models = trainingModels(
    opened,
    kind,
    rowSizeConditioning(opened.model, sizes, trainingSize, device),
    {
      ...partOptions,
      rowsAtOnce: config.batchSize,
      clipSkip: config.clipSkip,
      cudaGraphs: config.cudaGraphs,
    },
  );
  const heldOutSizes = heldOut && needsSizes ? await rowSizes(processes, heldOut, context) : [];
  const loader = createLoader(models, config, dataset, buckets, processes);

  state.totalSteps =
    (config.maxSteps ?? config.epochs * loader.batchesPerEpoch) + extraSteps(config, saved?.state.step ?? 0);
  const optimization = createOptimization(
    adapter.namedParameters(),
    config,
    state.totalSteps,
    processes.worldSize,
  );
  release.add(() => disposeAll(optimizationTensors(optimization)));
  if (saved !== undefined) {
    restoreOptimization(optimization, saved, (readable as ReadableCheckpoint).path);
    generator.setState(saved.generator, resumed as string);
    const { step, epoch, position, best } = saved.state;
    Object.assign(state, { step, epoch, position, ...(best && { best }) });
    // They keep the checkpoint's file mapped, which the run may delete.
    disposeAll(saved.optimizer.values());
  }
  await assertSameStart(processes, { adapter, generator, ...optimization });
  // All have read it.
  readable?.[Symbol.dispose]();
  const trained = { module: adapter, kind, file: config.outputDir };
  const draws = config.validationImages.length > 0 || config.validationScores !== undefined;
  using drawing = draws ? new Drawing(models.backbone, trained, config, placement) : undefined;
  using validation = await openValidation(drawing, config, { ...context, processes, step: state.step });
  const imageName = (row: number): string => (rows.at(row) as DatasetRow).image.name;
  const guard = new NanGuard(config.maxNanSteps, imageName, { device, ...context });
  const training = { config, models, adapter, generator, guard, ...optimization };
  const savedTotalSteps = saved?.state.totalSteps;
  return await work({
    ...{ processes, group, lock, training, placement, dataset, loader, buckets },
    ...{ state, resumed, savedTotalSteps, drawing, validation },
    heldOut: heldOut && {
      rows: heldOut,
      sizes: rowSizeConditioning(opened.model, heldOutSizes, () => square, device),
    },
  });
}

function initialState(
  config: ResolvedTrainOptions,
  dataset: Dataset,
  device: Device,
  { worldSize }: Processes,
): TrainingState {
  return {
    ...{ step: 0, totalSteps: 0, updates: 0, epoch: 0, position: 0 },
    dataset: { rows: dataset.rows.length, fingerprint: dataset.fingerprint },
    ...(worldSize > 1 ? { worldSize } : {}),
    // GPU and CPU draw different noise for one seed; the index of the GPU does not matter.
    options: { ...config, device: deviceKind(device) },
  };
}

/** Returns the size of each row's image, of which each process reads some. */
function rowSizes(processes: Processes, rows: Rows, context: GuardedContext): Promise<(Size | null)[]> {
  return sharedOut(processes, rows.length, (count, indexOf) =>
    readRowSizes(
      lazyRows(count, (i) => rows.at(indexOf(i)) as DatasetRow),
      context,
    ),
  );
}

function disposeAll(tensors: Iterable<Tensor>): void {
  for (const tensor of tensors) tensor.dispose();
}

/** Yields the batches of the epochs below `epochs`, which may grow meanwhile, starting at the epoch and position of the state. */
export async function* remainingBatches(
  loader: DataLoader,
  { epoch, position }: Pick<TrainingState, 'epoch' | 'position'>,
  epochs: () => number,
): AsyncGenerator<Batch> {
  for (let next = epoch; next < epochs(); next++) yield* loader.batches(next, next === epoch ? position : 0);
}
