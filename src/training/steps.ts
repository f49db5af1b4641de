/** @file How a run takes its steps: in one process, or in several that act as one. */
import type { Batch } from '../data/data-loader.js';
import type { StepMetrics } from './reports/step-reporter.js';
import { stepOrRestore, type Training } from './step.js';

/** A batch that could not be read. A process still takes part in the step, so that the others learn of it. */
export class BatchFailure {
  readonly error: unknown;

  constructor(error: unknown) {
    this.error = error;
  }
}

export interface StepOutcome {
  /** Null where the batch was skipped. */
  metrics: StepMetrics | null;
  /** The rows of all processes, without those whose image could not be read. */
  rows: number;
}

export interface Steps extends Disposable {
  /**
   * Takes a step.
   * @param step its number, from 1
   * @param onReducing is called while this process waits for the others, if there are any
   */
  take(batch: Batch | BatchFailure, step: number, onReducing: () => void): Promise<StepOutcome>;
  /** Whether the run is to end now because it was asked to. */
  readonly isStopping: boolean;
  /** Whether the run was asked for something during the last step; the same on all processes. */
  readonly isRequested: boolean;
}

/** An error that all processes know of, as `cause`: they can still act together. */
export class AgreedError extends Error {
  constructor(cause: unknown) {
    super(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

/** Yields the batches; in place of an error, a BatchFailure as the last one. */
export async function* orFailure(batches: AsyncIterable<Batch>): AsyncGenerator<Batch | BatchFailure> {
  try {
    yield* batches;
  } catch (error) {
    yield new BatchFailure(error);
  }
}

/** The steps of a run in one process. */
export class LocalSteps implements Steps {
  readonly #training: Training;
  readonly #signal: AbortSignal;
  readonly #hasRequests: () => boolean;

  constructor(training: Training, signal: AbortSignal, hasRequests: () => boolean) {
    this.#training = training;
    this.#signal = signal;
    this.#hasRequests = hasRequests;
  }

  get isRequested(): boolean {
    return this.#hasRequests();
  }

  get isStopping(): boolean {
    return this.#signal.aborted;
  }

  async take(batch: Batch | BatchFailure, step: number): Promise<StepOutcome> {
    if (batch instanceof BatchFailure) throw batch.error;
    const { length: rows } = batch.rows;
    return { metrics: rows === 0 ? null : stepOrRestore(this.#training, batch, step), rows };
  }

  [Symbol.dispose](): void {}
}
