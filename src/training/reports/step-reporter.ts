/**
 * @file Reports the progress of a run to the caller and to its log: losses, learning rates, speed, memory, and skipped rows.
 * It reports a few times a second, so that the wait for the device, which reading a loss causes, does not matter.
 */
import type { BadRow } from '../../base/listing.js';
import type { GuardedContext, StepEvent } from '../../base/run-context.js';
import { Throttle } from '../../base/throttle.js';
import { cat, type Device, memoryStats, stack, type Tensor, tidy } from '../../torch/index.js';
import type { EncodedImage } from './event-file.js';
import { LossByTimestep } from './loss-by-timestep.js';
import type { MeasureEvent } from './metrics-file.js';
import { type LogOptions, RunLog } from './run-log.js';

/** The results of a step. The tensors are still on the device, and are read only for a report. */
export interface StepMetrics {
  /** A scalar. */
  loss: Tensor;
  /** The loss of each row, float32 [b]. */
  rowLosses: Tensor;
  /** The timesteps of the same rows, int64 [b], 0 ≤ t < num_train_timesteps. */
  timesteps: Tensor;
  /** The global norm of the gradients before clipping, a scalar. */
  gradNorm: Tensor;
  /** By parameter group. */
  learningRates: Readonly<Record<string, number>>;
}

interface DoneStep extends StepMetrics {
  /** When the step was done, in seconds since 1970. */
  time: number;
}

const intervalMs = 500;

type ReportContext = Pick<GuardedContext, 'emit' | 'onMessage'>;

export class StepReporter implements Disposable {
  /** Undefined on all ranks but 0. */
  readonly #log: RunLog | undefined;
  readonly #context: ReportContext;
  readonly #badRows: ReadonlyMap<number, BadRow>;
  #totalSteps: number;
  readonly #lossByTimestep: LossByTimestep;
  readonly #device: Device;
  #step: number;
  #done: DoneStep[] = [];
  #images = 0;
  #waitedMs = 0;
  readonly #sinceFlush = new Throttle(intervalMs);
  #reportedBadRows = 0;

  /**
   * @param log null on a rank that reports nothing
   * @param badRows the skipped rows; the loader adds to it
   * @param run the step that the run starts from, its total number of steps, the timesteps of its model, and its device
   */
  constructor(
    log: LogOptions | null,
    context: ReportContext,
    badRows: ReadonlyMap<number, BadRow>,
    run: { step: number; totalSteps: number; numTrainTimesteps: number; device: Device },
  ) {
    this.#log = log === null ? undefined : new RunLog(log, run.step + 1, context.onMessage);
    this.#context = context;
    this.#badRows = badRows;
    this.#totalSteps = run.totalSteps;
    this.#lossByTimestep = new LossByTimestep(run.numTrainTimesteps);
    this.#step = run.step;
    this.#device = run.device;
  }

  /** Yields the same batches, and measures the time spent waiting for them. */
  async *timed<T>(batches: AsyncIterable<T>): AsyncGenerator<T> {
    let start = performance.now();
    for await (const batch of batches) {
      this.#waitedMs += performance.now() - start;
      yield batch;
      start = performance.now();
    }
  }

  /** Adds the results of the step that was just done, and takes over their tensors. */
  add(metrics: StepMetrics, images: number): void {
    this.#done.push({ ...metrics, time: Date.now() / 1000 });
    this.#images += images;
    this.#step++;
    if (this.#sinceFlush.isOver) this.flush();
  }

  /** Shows an image of the step that was just done in TensorBoard. */
  image(tag: string, image: EncodedImage): void {
    this.#log?.image(this.#step, tag, image);
  }

  /** Logs what is not a step. */
  log(event: MeasureEvent): void {
    this.#log?.measure(event);
  }

  /** The number of steps of the whole run, from the next step on. */
  set totalSteps(steps: number) {
    this.flush();
    this.#totalSteps = steps;
  }

  /** Runs work that is excluded from throughput. */
  async untimed(work: () => Promise<void>): Promise<void> {
    this.flush();
    await work();
    this.#sinceFlush.restart();
  }

  flush(): void {
    for (const { file, reason } of [...this.#badRows.values()].slice(this.#reportedBadRows))
      this.#context.onMessage(`Skipped ${file}: ${reason}`);
    this.#reportedBadRows = this.#badRows.size;
    const done = this.#done;
    if (done.length === 0) return;
    const { losses, gradNorms, rowLosses, timesteps } = readAndRelease(done);
    this.#done = [];
    this.#lossByTimestep.add(rowLosses, timesteps);
    const ofInterval = this.#ofInterval(done.length, this.#sinceFlush.restart() / 1000);
    this.#images = 0;
    this.#waitedMs = 0;

    const first = this.#step - done.length + 1;
    const events = done.map(
      ({ time, learningRates }, i): StepEvent => ({
        v: 1,
        type: 'step',
        step: first + i,
        total_steps: this.#totalSteps,
        time,
        loss: losses[i] as number,
        grad_norm: gradNorms[i] as number,
        ...named(learningRates),
      }),
    );
    Object.assign(events.at(-1) as StepEvent, ofInterval);
    this.#log?.write(events);
    for (const event of events) this.#context.emit(event);
  }

  /** Returns the values that a report has once: means over its steps, and memory at its end. */
  #ofInterval(steps: number, seconds: number): Record<string, number> {
    const waited = this.#waitedMs / 1000;
    const { cpuAllocatedBytes, cpuPeakBytes, gpuAllocatedBytes, gpuPeakBytes } = memoryStats(this.#device);
    return {
      'speed/images_per_second': this.#images / seconds,
      // Data and step time add up to the time of a step.
      'speed/data_seconds': waited / steps,
      'speed/step_seconds': (seconds - waited) / steps,
      'memory/cpu_allocated_bytes': cpuAllocatedBytes,
      'memory/cpu_peak_bytes': cpuPeakBytes,
      'memory/rss_bytes': process.memoryUsage.rss(),
      ...(gpuAllocatedBytes === null ? {} : { 'memory/gpu_allocated_bytes': gpuAllocatedBytes }),
      ...(gpuPeakBytes === null ? {} : { 'memory/gpu_peak_bytes': gpuPeakBytes }),
      ...this.#lossByTimestep.scalars(),
    };
  }

  /** Ends the log. @throws TrainingError where part of the log could not be written */
  finish(): void {
    this.#log?.finish();
  }

  [Symbol.dispose](): void {
    this.#log?.[Symbol.dispose]();
  }
}

/** Returns the numbers of all steps by column and disposes the tensors. It waits for the device. */
function readAndRelease(steps: readonly StepMetrics[]): Record<Column, number[]> {
  const read = tidy(() => ({
    losses: stack(steps.map(({ loss }) => loss)).toNumbers(),
    gradNorms: stack(steps.map(({ gradNorm }) => gradNorm)).toNumbers(),
    rowLosses: cat(steps.map(({ rowLosses }) => rowLosses)).toNumbers(),
    timesteps: cat(steps.map(({ timesteps }) => timesteps)).toNumbers(),
  }));
  for (const { loss, gradNorm, rowLosses, timesteps } of steps)
    for (const tensor of [loss, gradNorm, rowLosses, timesteps]) tensor.dispose();
  return read;
}

type Column = 'losses' | 'gradNorms' | 'rowLosses' | 'timesteps';

/** Returns the rates by names such as `lr/image_proj`. */
function named(learningRates: Readonly<Record<string, number>>): Record<string, number> {
  return Object.fromEntries(Object.entries(learningRates).map(([name, rate]) => [`lr/${name}`, rate]));
}
