/**
 * @file The training loop of an IP-Adapter (tencent-ailab/IP-Adapter tutorial_train_plus.py):
 *
 *     image ─► VAE ─► latents ─► + noise at a timestep ─┐
 *     image ─► image encoder ─► projection ─► image tokens ─► UNet with both attentions ─► loss ─► AdamW
 *     caption ─► text encoder ─► text states ───────────┘
 *
 * One step is in step.ts, its loss in loss.ts. Only the adapter is trained: its image projection, and `to_k_ip` and
 * `to_v_ip` at each cross-attention of the UNet. prepare.ts loads everything before the first step.
 */
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { TrainingError } from '../base/errors.js';
import { type BadRow, counted } from '../base/listing.js';
import { type GuardedContext, type RunContext, withContext } from '../base/run-context.js';
import { hasRequests } from '../base/steering.js';
import type { Batch } from '../data/data-loader.js';
import { referenceOptions } from '../data/reference-options.js';
import type { ProcessGroup } from '../distributed/process-group.js';
import type { TrainOptions } from '../options/train-types.js';
import { graphed, torchVersion } from '../torch/index.js';
import { BatchesAhead } from './batches-ahead.js';
import { describeCheckpoints, planCheckpoints } from './checkpoints/disk-space.js';
import { saveOptions } from './checkpoints/saved-options.js';
import { openChecks } from './checks.js';
import { type EncoderOptions, mappedPaths, openEncoders } from './encodings/encoders.js';
import { GroupSteps } from './group-step.js';
import { MappedFiles } from './mapped-files.js';
import { NonFiniteError } from './nan-guard.js';
import { describeSchedule, scheduleOf } from './optimization.js';
import { type PreparedRun, remainingBatches, withPreparedRun } from './prepare.js';
import { StepReporter } from './reports/step-reporter.js';
import { checkpointOf, RunSaver } from './run-saver.js';
import { Steering } from './steering.js';
import { createForwardBackward, TornStepError, type Training } from './step.js';
import { LocalSteps, orFailure, type Steps } from './steps.js';

export interface TrainContext extends RunContext {
  /** This process's place among several that train together; see `joinProcessGroup`. Default: it trains alone. */
  distributed?: ProcessGroup | undefined;
}

export interface TrainResult {
  step: number;
  /** Whether the run ended because it, or another of its processes, was asked to stop. */
  isStopped: boolean;
  /** The folder of the last checkpoint. */
  checkpoint: string;
  /** Rows that were skipped: incomplete ones, and those whose image could not be read. */
  badRows: BadRow[];
}

/**
 * Trains an adapter and returns after the last step, with its checkpoint written. An abort of the context's signal ends
 * training after the current step, with a checkpoint; before the first step it throws the signal's reason.
 * @throws ConfigError, CheckpointError, DatasetError where an option or a file is at fault; TrainingError where a loss is
 * not finite or a checkpoint cannot be written
 */
export async function train(options: TrainOptions, context: TrainContext = {}): Promise<TrainResult> {
  const { distributed, signal, onEvent } = context;
  // Rank 0 reports for all.
  const reporting = distributed === undefined || distributed.isMain ? { signal, onEvent } : { signal };
  try {
    return await withContext(reporting, (guarded) =>
      withPreparedRun(options, guarded, (run) => runSteps(run, guarded), distributed),
    );
  } catch (error) {
    await distributed?.reportFailure(error);
    throw error;
  }
}

/** Takes the steps of a run, and writes its metrics, checkpoints and validation sheets. */
async function runSteps(run: PreparedRun, context: GuardedContext): Promise<TrainResult> {
  const { processes, group, dataset, loader, state, resumed, validation, placement } = run;
  const { config, models, guard } = run.training;
  context.onMessage(describeCheckpoints(planCheckpoints(checkpointOf(run), config), config.outputDir));
  const encoderOptions = encoderOptionsOf(run, context);
  using encoders = await openEncoders(models, encoderOptions);
  using checks = await openChecks(run, encoders, context);
  const mappedFiles = new MappedFiles(mappedPaths(models, encoderOptions));
  // Loading blocked the event loop. Signals that arrived meanwhile are handled two turns later.
  for (let turn = 0; turn < 2; turn++) await setImmediate();
  context.signal.throwIfAborted();

  if (processes.isMain) saveOptions(config.outputDir, config);
  const forwardBackward = config.cudaGraphs ? graphed(createForwardBackward(run.training)) : undefined;
  const keepsGradients = config.cudaGraphs || group !== undefined;
  // With --max-steps, or steps that were asked for later, the run has as many epochs as its steps need.
  const isComplete = (): boolean => state.step >= state.totalSteps;
  const epochs = (): number => {
    if (isComplete()) return 0;
    return config.maxSteps === undefined && !steering.isExtended ? config.epochs : Number.POSITIVE_INFINITY;
  };
  using batches = new BatchesAhead(encoders, orFailure(remainingBatches(loader, state, epochs)));
  const training: Training = {
    ...run.training,
    encoders: batches.encoders,
    ...{ forwardBackward, keepsGradients },
  };
  using steps = stepsOf(run, training, context);
  announce(run, context);
  using reporter = new StepReporter(processes.isMain ? config : null, checks.watching, loader.badRows, {
    step: state.step,
    totalSteps: state.totalSteps,
    numTrainTimesteps: models.objective.numTrainTimesteps,
    ...placement,
  });
  const saver = new RunSaver(run, reporter, mappedFiles, context);

  const firstStep = state.step;
  let isStopped = false;
  const steering = new Steering(run, reporter, context, {
    sample: async () => {
      if (validation === undefined && !checks.isMeasuring)
        context.onMessage('There is nothing to sample: give --validation-images or --validation-split');
      guard.checkLastStep();
      await validation?.draw(state.step, reporter);
      await checks.after(state.step, reporter, saver, true);
    },
    save: async () => {
      if (!saver.isSaved) await saver.save(false);
    },
    extend: (totalSteps) => {
      training.schedule = scheduleOf(config, totalSteps, processes.worldSize);
      reporter.totalSteps = totalSteps;
    },
  });
  try {
    // A run that was killed between a checkpoint and its validation sheet draws the sheet now.
    if (state.step % config.validationSteps === 0) await validation?.draw(state.step, reporter);
    for await (const batch of reporter.timed(batches)) {
      const { metrics, rows } = await steps.take(batch, state.step + 1, () => {
        if (state.step + 1 < state.totalSteps) batches.readNext();
      });
      const { epoch, nextPosition, planned } = batch as Batch;
      Object.assign(state, { epoch, position: nextPosition });
      if (rows === 0)
        context.onMessage(`Skipped a batch: no image of its ${counted(planned, 'row')} can be read`);
      // A batch that was skipped, without rows or because of a NaN, does not count as a step.
      if (metrics !== null) {
        state.step++;
        reporter.add(metrics, rows);
        if (state.step % config.saveSteps === 0) await saver.save(false);
        if (state.step % config.validationSteps === 0) {
          guard.checkLastStep();
          await validation?.draw(state.step, reporter);
        }
        await checks.after(state.step, reporter, saver);
      }
      await steering.obey(steps.isRequested);
      // Yield, so that images are read and signals are handled: a step blocks the event loop.
      await setImmediate();
      isStopped = !isComplete() && (steps.isStopping || steering.isStopping);
      // Before the next batch is read: a complete run must not fail because of it.
      if (isComplete() || isStopped) break;
    }
    if (!saver.isSaved) await saver.save(true);
    else if (state.step === firstStep && isComplete())
      context.onMessage(
        `Nothing is left to do: ${resumed} has all ${state.step} steps of the run. To train on, give more --max-steps or --epochs`,
      );
    if (!isStopped) await validation?.draw(state.step, reporter);
    if (!isStopped) await checks.after(state.step, reporter, saver, true);
  } catch (error) {
    // Not saved: the weights may be finite and yet spoilt by the step before.
    if (error instanceof NonFiniteError || error instanceof TornStepError)
      throw new TrainingError(`${error.message}; ${saver.resumeHint()}`, { cause: error });
    throw await saver.saveAfter(error);
  } finally {
    reporter.flush();
  }
  reporter.finish();
  const badRows = [...dataset.incomplete, ...loader.badRows.values()];
  return { step: state.step, isStopped, checkpoint: saver.newest as string, badRows };
}

function stepsOf(
  { processes, group, loader, placement }: PreparedRun,
  training: Training,
  { signal }: GuardedContext,
): Steps {
  const isRequested = (): boolean => processes.isMain && hasRequests(training.config.outputDir);
  if (group === undefined) return new LocalSteps(training, signal, isRequested);
  const { batchSize, gradientAccumulationSteps } = training.config;
  const rowsPerStep = batchSize * gradientAccumulationSteps * group.worldSize;
  return new GroupSteps(training, {
    group,
    loader,
    rowsPerStep,
    placement,
    signal,
    hasRequests: isRequested,
  });
}

function encoderOptionsOf(
  { processes, training: { config }, dataset, loader, buckets, placement }: PreparedRun,
  context: GuardedContext,
): EncoderOptions {
  const {
    cache = [],
    cacheDir = join(config.outputDir, 'cache'),
    resolution,
    randomFlip,
    reducedDecode,
  } = config;
  return {
    ...{ cached: cache, cacheDir, resolution, randomFlip, reducedDecode },
    references: referenceOptions(config),
    ...{ rows: dataset.rows, loader, buckets, placement, processes },
    ...context,
  };
}

/** Reports what is about to be trained. */
function announce(run: PreparedRun, { onMessage }: GuardedContext): void {
  const { processes, training, dataset, state, resumed, placement } = run;
  const trained = training.adapter.parameters().reduce((sum, { numel }) => sum + numel, 0);
  onMessage(
    `Training ${trained.toLocaleString('en')} parameters on ${dataset.rows.length} rows, ${placement.device}, LibTorch ${torchVersion()}` +
      (resumed === undefined ? '' : `, from step ${state.step} of ${resumed}`),
  );
  const { batchSize, gradientAccumulationSteps: accumulated } = training.config;
  const { worldSize } = processes;
  if (worldSize > 1)
    onMessage(
      `${worldSize} processes: a step takes ${batchSize * accumulated * worldSize} rows, ${batchSize} × ${worldSize} processes${accumulated === 1 ? '' : ` × ${accumulated} batches`}`,
    );
  const schedule = describeSchedule(training.config, state.totalSteps, run.savedTotalSteps);
  if (schedule !== null) onMessage(schedule);
}
