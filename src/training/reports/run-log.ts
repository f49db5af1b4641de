/**
 * @file The log of a run: a line for each step in `metrics.jsonl`, and the same numbers by the same names in
 * TensorBoard's event files.
 *
 *     {"v": 1, "type": "step", "step": 12, "total_steps": 100, "time": 1764322420.1, "loss": 0.34, "grad_norm": 0.2,
 *      "lr/image_proj": 0.0001, "lr/ip_adapter": 0.0001}
 *
 * Steps after the checkpoint that a run resumes from are done again: their old lines are removed, and TensorBoard drops
 * their old events.
 */
import { join, resolve } from 'node:path';
import { isSystemError } from '../../base/errors.js';
import type { GainEvent, Gains, ScoreSet, StepEvent } from '../../base/run-context.js';
import type { Interval } from '../../base/statistics.js';
import { type EncodedImage, EventFile, imageEvent, scalarsEvent } from './event-file.js';
import { type MeasureEvent, MetricsFile, metricsFile } from './metrics-file.js';

export interface LogOptions {
  outputDir: string;
  reportTo: 'tensorboard' | 'none';
  /** The folder of the event files, relative to `outputDir`. */
  loggingDir: string;
}

export class RunLog implements Disposable {
  readonly #metrics: MetricsFile;
  readonly #openEvents: () => EventFile;
  readonly #onMessage: ((message: string) => void) | undefined;
  #hasEvents: boolean;
  #events: EventFile | undefined;

  /**
   * Opens the log. Its files are created with the first entry.
   * @param firstStep the first step that is logged
   */
  constructor(
    { outputDir, reportTo, loggingDir }: LogOptions,
    firstStep: number,
    onMessage?: (message: string) => void,
  ) {
    this.#metrics = new MetricsFile(join(outputDir, metricsFile), firstStep - 1, onMessage);
    this.#openEvents = () => new EventFile(resolve(outputDir, loggingDir), firstStep);
    this.#hasEvents = reportTo === 'tensorboard';
    this.#onMessage = onMessage;
  }

  write(events: readonly StepEvent[]): void {
    this.#metrics.append(events);
    this.#writeEvents(
      events.map(({ v: _, type: __, total_steps: ___, time, step, ...scalars }) =>
        scalarsEvent(time, step, scalars),
      ),
    );
  }

  /** Writes a line, and its numbers to TensorBoard. */
  measure(event: MeasureEvent): void {
    this.#metrics.append([event]);
    const scalars = scalarsOf(event);
    if (scalars !== null) this.#writeEvents([scalarsEvent(event.time, event.step, scalars)]);
  }

  /** Shows an image in TensorBoard. */
  image(step: number, tag: string, image: EncodedImage): void {
    this.#writeEvents([imageEvent(Date.now() / 1000, step, tag, image)]);
  }

  /**
   * Ends the log of a run that is complete.
   * @throws TrainingError where lines of metrics.jsonl could not be written
   */
  finish(): void {
    this.#metrics.finish();
  }

  /** Writes to the event file. After a failed write nothing more is written, since TensorBoard would not show the gap. */
  #writeEvents(events: Parameters<EventFile['write']>[0]): void {
    if (!this.#hasEvents) return;
    try {
      this.#events ??= this.#openEvents();
      this.#events.write(events);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      this.#hasEvents = false;
      this.#onMessage?.(`The event files for TensorBoard end here: ${error.message}`);
    }
  }

  [Symbol.dispose](): void {
    this.#events?.[Symbol.dispose]();
  }
}

/** Returns what TensorBoard shows of an event; null for words and images. */
function scalarsOf(event: MeasureEvent): Record<string, number> | null {
  if (event.type === 'gain') return gainScalars(event);
  if (event.type !== 'scores') return null;
  const sets = Object.entries({
    adapter: event.adapter,
    shuffled: event.shuffled,
    no_adapter: event.noAdapter,
  });
  return Object.fromEntries(
    sets.flatMap(([set, scores]) =>
      Object.entries(scores as ScoreSet).flatMap(([name, score]: [string, Interval | null]) =>
        score === null ? [] : [[`scores/${name}/${set}`, score.mean]],
      ),
    ),
  );
}

function gainScalars({
  loss,
  text,
  feature_spread,
  bands,
  gauge,
  ...gains
}: GainEvent): Record<string, number> {
  // Padded, so that names sort as numbers do.
  const { length } = String((bands.at(-1)?.end ?? 1) - 1);
  const shown = (timestep: number): string => String(timestep).padStart(length, '0');
  const byTimestep = bands.map((band) =>
    intervalsOf(`gain_by_timestep/${shown(band.first)}-${shown(band.end - 1)}`, band),
  );
  return {
    ...intervalsOf('gain', gains),
    ...withPrefix('gain/loss', loss),
    ...intervalScalars('gain/text/adapter', text.adapter),
    ...intervalScalars('gain/text/base', text.base),
    'gain/feature_spread': feature_spread,
    ...Object.assign({}, ...byTimestep),
    ...withPrefix('gauge', gauge),
  };
}

function intervalsOf(
  name: string,
  { gain, over_none, over_base, specificity }: Omit<Gains, 'loss'>,
): Record<string, number> {
  return {
    ...intervalScalars(name, gain),
    ...intervalScalars(`${name}/over_none`, over_none),
    ...intervalScalars(`${name}/over_base`, over_base),
    ...intervalScalars(`${name}/specificity`, specificity),
  };
}

function intervalScalars(name: string, { mean, low, high }: Interval): Record<string, number> {
  return { [name]: mean, [`${name}/low`]: low, [`${name}/high`]: high };
}

function withPrefix(prefix: string, numbers: Record<string, number>): Record<string, number> {
  return Object.fromEntries(Object.entries(numbers).map(([name, value]) => [`${prefix}/${name}`, value]));
}
