/** @file Measures the gain of a run as it goes, logs it, and says in words what it shows when that changes. */
import type { IPAdapter } from '../adapters/ip-adapter.js';
import type { GainEvent, GuardedContext } from '../base/run-context.js';
import { type Part, parts } from '../options/train-options.js';
import { Generator } from '../torch/index.js';
import type { Encode } from './encodings/frozen-encoders.js';
import { GainMeter } from './gain.js';
import { encodeHeldOut } from './held-out.js';
import type { PreparedRun } from './prepare.js';
import type { StepReporter } from './reports/step-reporter.js';
import { createLoader } from './setup.js';
import { describeVerdict, type VerdictKind, verdictOf } from './verdict.js';

/** Measured also after these steps: whether a run learns should be known soon. */
const EARLY_STEPS = [50, 100, 200];
/** Not the run's: the same rows are measured alike in all runs, whose figures can be compared. */
const SEED = 17;

type GainContext = Pick<GuardedContext, 'emit' | 'onMessage'>;

/**
 * Encodes the held-out rows of a run.
 * @param encoders of the run, of which caches have the training rows only
 * @returns undefined where none are held out
 * @throws DatasetError where too many of them cannot be read
 */
export async function openGainCheck(
  run: PreparedRun,
  encoders: Record<Part, Encode>,
  context: GainContext,
): Promise<GainCheck | undefined> {
  const { heldOut, placement, training } = run;
  if (heldOut === undefined) return undefined;
  const { config, models } = training;
  // Of one size, also where the run has buckets, and not cached: they are encoded once.
  const loader = createLoader(models, { ...config, cache: [] }, heldOut, undefined);
  const source = { generator: new Generator(placement.device, SEED), device: placement.device };
  const loaded = Object.fromEntries(
    parts.filter((part) => !config.cache?.includes(part)).map((part) => [part, encoders[part]]),
  );
  const rows = await encodeHeldOut({ ...models, sizes: heldOut.sizes }, loaded, loader, heldOut.rows, source);
  const meter = new GainMeter(models, rows, config.batchSize, source);
  return new GainCheck(meter, config.validationSteps, context);
}

export class GainCheck implements Disposable {
  readonly #meter: GainMeter;
  readonly #every: number;
  readonly #context: GainContext;
  #told: VerdictKind | undefined;
  #measuredAt: number | undefined;

  /** @internal */
  constructor(meter: GainMeter, every: number, context: GainContext) {
    this.#meter = meter;
    this.#every = every;
    this.#context = context;
  }

  isDue(step: number): boolean {
    return step % this.#every === 0 || EARLY_STEPS.includes(step);
  }

  /** Measures the adapter as it is after `step`, once for a step. */
  async measure(adapter: IPAdapter, step: number, reporter: StepReporter): Promise<void> {
    if (step === this.#measuredAt || step === 0) return;
    this.#measuredAt = step;
    await reporter.untimed(async () => {
      const report = this.#meter.measure(adapter);
      const verdict = verdictOf(report);
      const event: GainEvent = { v: 1, type: 'gain', step, time: Date.now() / 1000, ...report, verdict };
      reporter.gain(event);
      this.#context.emit(event);
      // Once: neither an unclear beginning nor what was said before is worth words.
      if (verdict === this.#told || (verdict === 'unclear' && this.#told === undefined)) return;
      this.#told = verdict;
      this.#context.onMessage(describeVerdict(verdict, report, step));
    });
  }

  [Symbol.dispose](): void {
    this.#meter[Symbol.dispose]();
  }
}
