/** @file What a caller can watch and stop, the same for every command of the library. */

import type { RgbImage } from './rgb-image.js';
import type { Interval } from './statistics.js';

/** The second argument of `train`, `generate`, `evaluate` and all others. */
export interface RunContext {
  /** Stops the work after the step under way. Training then saves a checkpoint; everything else throws the reason. */
  signal?: AbortSignal | undefined;
  /** Is told what happens, in order. If it throws, the work stops as by `signal`, and the caller gets that error. */
  onEvent?: ((event: RunEvent) => void) | undefined;
}

/** What happens during a run. `v` is the version of this union. */
export type RunEvent =
  | MessageEvent
  | StepEvent
  | GainEvent
  | RequestEvent
  | ScoresEvent
  | VerdictEvent
  | SheetEvent
  | ProgressEvent
  | CheckpointEvent
  | ImageEvent
  | PreviewEvent;

/** Text for a person. */
export interface MessageEvent {
  v: 1;
  type: 'message';
  text: string;
}

/**
 * A training step is done. Lines of `metrics.jsonl` are such events, those of `GainEvent` and of `RequestEvent`; they come in groups, about
 * twice a second.
 */
export interface StepEvent {
  v: 1;
  type: 'step';
  /** Optimizer steps done, of `total_steps`. */
  step: number;
  total_steps: number;
  /** When the step was done, seconds since 1970. */
  time: number;
  loss: number;
  /** The global norm of the gradients before clipping. */
  grad_norm: number;
  /** The learning rate of a parameter group. */
  [learningRate: `lr/${string}`]: number;
  /** Means over the steps of a group, in its last event only: images_per_second, step_seconds, data_seconds. */
  [speed: `speed/${string}`]: number;
  /** Bytes, in a group's last event only. */
  [memory: `memory/${string}`]: number;
  /** Smoothed loss of a range of timesteps, in a group's last event only. */
  [loss: `loss_by_timestep/${string}`]: number;
}

/** How much lower the loss of held-out rows is with the right image than otherwise; above 0 is better. */
export interface Gains {
  /** Mean losses: with the right image, another row's, none, and without adapter. */
  loss: { right: number; shuffled: number; none: number; base: number };
  /** Lower than without an image: 'none' − 'right'. Misleads alone, since only 1 in 10 rows is trained without. */
  over_none: Interval;
  /** Lower than the base model: 'base' − 'right'. Below 0, the adapter harms. */
  over_base: Interval;
  /** Lower than with another row's image: 'shuffled' − 'right'. Around 0, the image does not matter, whatever is learnt. */
  specificity: Interval;
  /**
   * The one of the three whose lower end is the lowest. Its interval lies above 0 only where all three do: the adapter uses
   * the image. (An intersection-union test; it needs no correction for three comparisons.)
   */
  gain: Interval;
}

/** The adapter was measured on the held-out rows of `validationSplit`. */
export interface GainEvent extends Gains {
  v: 1;
  type: 'gain';
  /** The training step after which it was measured. */
  step: number;
  /** Seconds since 1970. */
  time: number;
  /** The number of held-out rows. */
  rows: number;
  /** The same by range of timesteps, first ≤ t < end. */
  bands: (Gains & { first: number; end: number })[];
  /** ‖image attention‖ / ‖text attention‖ by attention layer. */
  gauge: Record<string, number>;
  /**
   * How much lower the loss is with the row's text than with another's, beside another row's image: what the text still
   * says. `base` is the same without adapter.
   */
  text: { adapter: Interval; base: Interval };
  /** How much the image encoder's features differ between rows, relative to their size; 0: all images look the same. */
  feature_spread: number;
  /** What the measure took. */
  seconds: number;
  verdict: 'uses the image' | 'harms' | 'ignores the image' | 'unclear';
}

/** The run was asked for something while it trained, and does it after `step`. Also a line of `metrics.jsonl`. */
export interface RequestEvent {
  v: 1;
  type: 'request';
  step: number;
  /** Seconds since 1970. */
  time: number;
  request: 'sample' | 'save' | 'stop' | 'extend';
  /** For `extend`: the steps that are added to the run. */
  steps?: number;
  /** Of the request, as its file is named; missing where a run is repeated. */
  id?: string;
}

/** How images follow their prompts: means over rows, each with its 95 % interval. */
export interface ScoreSet {
  /** Cosine to its own reference image, -1 … 1. Misleads alone: a copy of the reference has 1. */
  clipI: Interval;
  /** Cosine to the caption, -1 … 1; null without a text encoder. */
  clipT: Interval | null;
  /** As clipI, with DINO, which knows things apart that have the same name; null without. */
  dino: Interval | null;
  /** Share of images whose own reference is the closest of all rows', 0 … 1. */
  retrieval: Interval;
  /** Share of images that copy their reference: a correlation of pixels, at 32 × 32, of 0.95 or more. */
  copies: Interval;
}

/** Images of the held-out rows were generated and measured. */
export interface ScoresEvent {
  v: 1;
  type: 'scores';
  /** The training step after which they were generated. */
  step: number;
  /** Seconds since 1970. */
  time: number;
  /** The number of rows; chance of retrieval is 1 / rows. */
  rows: number;
  /** With each row's own reference image. */
  adapter: ScoreSet;
  /** With another row's: what a score is where the reference does not matter. */
  shuffled: ScoreSet;
  /** From the same noise without adapter. */
  noAdapter: ScoreSet;
}

/** What the measures of a run say in words. Each kind is said once, until another of the same subject is said. */
export interface VerdictEvent {
  v: 1;
  type: 'verdict';
  step: number;
  /** Seconds since 1970. */
  time: number;
  kind:
    | GainEvent['verdict']
    | 'does not use the image yet'
    | 'copies'
    | 'ignores the text'
    | 'loss drifts'
    | 'norm drifts';
  text: string;
}

/** A sheet of validation images was written. */
export interface SheetEvent {
  v: 1;
  type: 'sheet';
  step: number;
  /** Seconds since 1970. */
  time: number;
  /** Relative to the output folder. */
  path: string;
  /** Of an image in it, in pixels. */
  width: number;
  height: number;
  /** Titles. */
  columns: string[];
  rows: string[];
}

/** Some of the work is done, `done` of `total`: denoising steps, or rows that were read. */
export interface ProgressEvent {
  v: 1;
  type: 'progress';
  done: number;
  total: number;
}

/** A checkpoint was written. */
export interface CheckpointEvent {
  v: 1;
  type: 'checkpoint';
  step: number;
  /** Its folder. */
  path: string;
}

/** An image was written. */
export interface ImageEvent {
  v: 1;
  type: 'image';
  /** The training step that it shows. */
  step: number;
  path: string;
}

/** Images that are being generated, as they look after some of the steps (`previewSteps`). */
export interface PreviewEvent {
  v: 1;
  type: 'preview';
  /** Denoising steps done, of `totalSteps`. */
  step: number;
  totalSteps: number;
  /** One for each image of the batch, with a pixel for each latent: an eighth of its width and height. */
  images: RgbImage[];
}

/** What the parts of some work get of its context: it never throws, and fills in the version of events. */
export interface GuardedContext extends RunContext {
  signal: AbortSignal;
  emit(event: NewEvent): void;
  /** Emits a message. */
  onMessage(text: string): void;
}

type NewEvent = RunEvent extends infer E ? (E extends RunEvent ? Omit<E, 'v'> : never) : never;

/**
 * Does `work` for a caller whose `onEvent` may throw: the first error aborts the work's signal, and is thrown when the
 * work has ended, so that it can release what it holds.
 */
export async function withContext<T>(
  { signal: outer, onEvent }: RunContext,
  work: (context: GuardedContext) => Promise<T>,
): Promise<T> {
  const failure = new AbortController();
  const signal = outer === undefined ? failure.signal : AbortSignal.any([outer, failure.signal]);
  const guarded = (event: RunEvent): void => {
    if (failure.signal.aborted) return;
    try {
      onEvent?.(event);
    } catch (error) {
      failure.abort(error);
    }
  };
  const emit = (event: NewEvent): void => guarded({ v: 1, ...event } as RunEvent);
  const onMessage = (text: string): void => emit({ type: 'message', text });
  let result: T;
  try {
    result = await work({ signal, onEvent: guarded, emit, onMessage });
  } catch (error) {
    throw failure.signal.aborted ? failure.signal.reason : error;
  }
  if (!failure.signal.aborted) return result;
  (result as Partial<Disposable> | undefined)?.[Symbol.dispose]?.();
  throw failure.signal.reason;
}

/** Returns the context of the i-th of equal parts, which reports progress of the whole. */
export function partOf({ signal, onEvent }: RunContext, i: number, parts: number): RunContext {
  return {
    signal,
    onEvent: (event) => {
      if (event.type !== 'progress') onEvent?.(event);
      else onEvent?.({ ...event, done: i * event.total + event.done, total: parts * event.total });
    },
  };
}
