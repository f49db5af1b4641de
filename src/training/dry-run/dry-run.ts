/**
 * @file The dry run: prepares a training run and takes its first steps, with the same errors and the same losses, and
 * writes nothing. It measures the time and memory of a step, part by part, and estimates those of the whole run.
 */

import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { ConfigError } from '../../base/errors.js';
import { type GuardedContext, type RunContext, withContext } from '../../base/run-context.js';
import type { Examples } from '../../data/examples.js';
import { referenceOptions } from '../../data/reference-options.js';
import { resolveOptions } from '../../options/options.js';
import { type Part, parts, trainOptionsSchema } from '../../options/train-options.js';
import type { TrainOptions } from '../../options/train-types.js';
import { tidy, trimMemory } from '../../torch/index.js';
import { diskNeeds, planCheckpoints } from '../checkpoints/disk-space.js';
import type { Encode, FrozenEncoder } from '../encodings/frozen-encoders.js';
import { type PreparedRun, withPreparedRun } from '../prepare.js';
import { checkpointOf } from '../run-saver.js';
import { createLoader, lossInputs } from '../setup.js';
import { trainStep } from '../step.js';
import { type CacheRehearsal, rehearseCaches } from './cache-rehearsal.js';
import { type DryRunReport, encoderNames, part, type StepMeasures, weightsOf } from './dry-run-report.js';
import { PhaseMeter } from './phase-meter.js';
import { rehearsedBatches } from './rehearsed-batches.js';

/** In the order of a step. */
const encoderOrder = ['latents', 'text', 'image'] as const satisfies readonly Part[];

/**
 * Does what `train` does with these options up to its second step, without writing anything. A model that is missing in
 * the Hub's cache is downloaded into it.
 * @throws the errors that `train` would throw before its third step; ConfigError for a dataset from standard input
 */
export async function dryRun(options: TrainOptions, context: RunContext = {}): Promise<DryRunReport> {
  if (resolveOptions(trainOptionsSchema, options).dataset.includes('-'))
    throw new ConfigError(
      '--dataset (dataset) is -, which a dry run cannot read: a pipe can be read only once, and the run itself needs it. Save the tar to a file and give its path',
    );
  try {
    return await withContext(context, (guarded) =>
      // The phases in a CUDA graph cannot be measured separately.
      withPreparedRun({ ...options, cudaGraphs: false }, guarded, (run) => rehearse(run, guarded)),
    );
  } finally {
    // The caller may start the run itself next, which needs the memory.
    trimMemory();
  }
}

async function rehearse(run: PreparedRun, { signal }: GuardedContext): Promise<DryRunReport> {
  const { config, models } = run.training;
  const { state, dataset, loader } = run;
  const cached = config.cache ?? [];
  const uncached = parts.filter((name) => !cached.includes(name));
  const loaded = new Map(uncached.map((name) => [name, models.encoders[name].load()]));
  try {
    const caches = cached.length === 0 ? noCaches : await rehearseCachesOf(run, signal);
    const steps = await rehearseSteps(run, loaded, caches, signal);
    const { measures: step, resident } = steps.at(-1) as RehearsedStep;
    const peaks = steps.flatMap(({ tensorBytes }) => tensorBytes ?? []);
    const left = Math.max(0, state.totalSteps - state.step);
    const checkpoints = planCheckpoints(checkpointOf(run), config);
    return {
      totalSteps: state.totalSteps,
      doneSteps: state.step,
      losses: steps.map(({ loss }) => loss),
      step,
      caches: caches.measures,
      memory: {
        tensors: peaks.length === 0 ? null : Math.max(...peaks),
        resident,
        mostResident: process.resourceUsage().maxRSS * 1024,
      },
      checkpoints,
      disk: diskNeeds([
        [config.outputDir, checkpoints.peakBytes],
        [
          config.cacheDir ?? config.outputDir,
          caches.measures.reduce((sum, { diskBytes }) => sum + diskBytes, 0),
        ],
      ]),
      seconds: left * step.seconds + caches.measures.reduce((sum, { totalSeconds }) => sum + totalSeconds, 0),
      badRows: [...dataset.incomplete, ...loader.badRows.values()],
    };
  } finally {
    for (const encoder of loaded.values()) encoder[Symbol.dispose]();
  }
}

const noCaches: CacheRehearsal = { measures: [], encode: {} };

interface RehearsedStep {
  /** Null where the batch was skipped. */
  loss: number | null;
  measures: StepMeasures;
  tensorBytes: number | null;
  resident: number;
}

/** Takes the steps as `train` does, and measures them. */
async function rehearseSteps(
  run: PreparedRun,
  loaded: ReadonlyMap<Part, FrozenEncoder>,
  caches: CacheRehearsal,
  signal: AbortSignal,
): Promise<RehearsedStep[]> {
  const { training, state, loader, placement } = run;
  const inputs = [
    ...[...loaded.keys()].map((name) => training.models.encoders[name].input),
    ...lossInputs(training.config),
  ];
  const steps: RehearsedStep[] = [];
  let start = performance.now();
  for await (const batch of rehearsedBatches(run, loader, inputs)) {
    const readSeconds = (performance.now() - start) / 1000;
    // Yield, so that signals are handled.
    await setImmediate();
    signal.throwIfAborted();
    const meter = new PhaseMeter(placement.device);
    const encoders = { ...meteredEncoders(loaded, meter), ...caches.encode } as Record<Part, Encode>;
    const step = state.step + steps.length + 1;
    const loss = tidy(() => {
      const metrics = trainStep({ ...training, encoders, measure: meter.measure }, batch, step);
      training.guard.checkLastStep();
      return metrics === null ? null : metrics.loss.item();
    });
    const measures = measuresOf(run, loaded, batch, readSeconds, meter);
    const { tensorBytes } = meter.total();
    steps.push({ loss, measures, tensorBytes, resident: process.memoryUsage.rss() });
    start = performance.now();
  }
  return steps;
}

/** Reads the batches with the inputs of all encoders (a step leaves out those of cached parts), and measures the caches. */
async function rehearseCachesOf(run: PreparedRun, signal: AbortSignal): Promise<CacheRehearsal> {
  const { training, dataset, placement, buckets, loader } = run;
  const { config, models } = training;
  const reader = createLoader(models, { ...config, cache: [] }, dataset, buckets);
  const start = performance.now();
  const batches: Examples[] = [];
  const inputs = parts.map((name) => models.encoders[name].input);
  for await (const batch of rehearsedBatches(run, reader, inputs)) batches.push(batch);
  const count = batches.reduce((sum, { rows }) => sum + rows.length, 0);
  const readSeconds = (performance.now() - start) / 1000 / count;
  // Rows that cannot be read are found when a cache is filled, and skipped in the steps.
  loader.addBadRows(reader.badRows);
  signal.throwIfAborted();
  return rehearseCaches(models, batches, readSeconds, {
    cached: config.cache ?? [],
    cacheDir: config.cacheDir ?? join(config.outputDir, 'cache'),
    resolution: config.resolution,
    randomFlip: config.randomFlip,
    reducedDecode: config.reducedDecode,
    references: referenceOptions(config),
    ...{ buckets, rows: dataset.rows, placement },
  });
}

function meteredEncoders(
  loaded: ReadonlyMap<Part, FrozenEncoder>,
  meter: PhaseMeter,
): Partial<Record<Part, Encode>> {
  const metered = Array.from(loaded, ([name, { encode }]): [Part, Encode] => [
    name,
    (examples) => meter.measure(name, () => encode(examples)),
  ]);
  return Object.fromEntries(metered);
}

/** Returns the measures of the step that was just taken. */
function measuresOf(
  { training: { adapter, models, optimizer, ema, config }, buckets }: PreparedRun,
  loaded: ReadonlyMap<Part, FrozenEncoder>,
  batch: Examples,
  readSeconds: number,
  meter: PhaseMeter,
): StepMeasures {
  const { seconds } = meter.total();
  const held = (tensors: Iterable<{ bytes: number }>) => ({
    mappedBytes: 0,
    heldBytes: [...tensors].reduce((sum, { bytes }) => sum + bytes, 0),
  });
  const encoders = encoderOrder.flatMap((name) => {
    const encoder = loaded.get(name);
    return encoder === undefined
      ? []
      : [part(encoderNames[name], meter.phase(name), weightsOf(encoder.parameters()))];
  });
  const parameters = adapter.parameters();
  const named = [
    part('reading images', { seconds: readSeconds, tensorBytes: null }),
    ...encoders,
    part('UNet', undefined, weightsOf(models.backbone.parameters())),
    part('adapter', undefined, held(parameters)),
    part('forward', meter.phase('forward')),
    // The gradients are as large as the parameters, and are released after the update.
    part('backward', meter.phase('backward'), held(parameters)),
    part('AdamW', meter.phase('update'), held(optimizer.stateDict().values())),
    ...(ema === null ? [] : [part('moving average', undefined, held(ema.stateDict().values()))]),
  ];
  const rest = readSeconds + seconds - named.reduce((sum, { seconds }) => sum + (seconds ?? 0), 0);
  const square = { width: config.resolution, height: config.resolution };
  return {
    images: batch.rows.length,
    size: buckets?.[batch.rows[0] as number] ?? square,
    parts: [...named, part('everything else', { seconds: rest, tensorBytes: null })],
    seconds: readSeconds + seconds,
  };
}
