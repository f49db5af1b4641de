/**
 * @file What the process that checks a dataset (dataset-check/check-process.ts) is asked, and what it answers: what
 * `ip-adapter data check` says, bounded, however large the dataset is.
 */
import type { CheckOptions } from './train-types.js';

export interface CheckRequest {
  options: CheckOptions;
  /** The folders that files of the dataset must be in, wherever links lead. */
  roots: readonly string[];
}

export interface CheckSamples {
  /** Titles: the training image, then each reference. */
  columns: string[];
  rows: CheckedRow[];
}

/** A row as the encoders see it in the first epoch. */
interface CheckedRow {
  /** Such as 'row 5, mirrored'. */
  facts: string;
  caption: string;
  /** WebP as data URLs; one for each column. */
  images: string[];
}

export interface CheckProblem {
  title: string;
  count: number;
  /** The first ones. */
  shown: { file: string; reason: string }[];
}

export interface CheckSummary {
  facts: [name: string, value: string][];
  /** With buckets; otherwise empty. */
  buckets: { width: number; height: number; rows: number; batches: number; partial: number }[];
  problems: CheckProblem[];
}

/** Rows by their index, ascending. */
export interface ProblemRows {
  /** Whose images cannot be read. */
  unreadable: Uint32Array;
  /** Whose images are those of another row, byte for byte. */
  sameImage: Uint32Array;
}

export type CheckMessage =
  | { type: 'progress'; done: number; total: number }
  | { type: 'samples'; samples: CheckSamples }
  | { type: 'done'; summary: CheckSummary; rows: ProblemRows }
  | ({ type: 'failed' | 'samples failed' } & CheckFault);

export interface CheckFault {
  error: string;
  /** The one that is wrong, if one is. */
  option?: string | undefined;
  /** Whether it is of this package, not of the options or the dataset. */
  isFault: boolean;
}
