/** @file The report of `ip-adapter data check`. */
import type { BadRow } from '../base/listing.js';

export interface DatasetReport {
  /** What the dataset is, in words. */
  dataset: string;
  rows: number;
  /** Rows with an image that cannot be read, which training skips. */
  badRows: BadImage[];
  /** Samples without an image or a caption. They are not rows. */
  incomplete: BadRow[];
  /** Files and folders that look like part of the dataset but are not used. */
  leftOut: BadRow[];
  /** Of the rows that can be read. */
  images: ImagesReport;
  captions: CaptionsReport;
  /** The sizes that rows are trained in: without buckets the square alone. */
  buckets: BucketReport[];
  /** Batches of an epoch without the bad rows. */
  stepsPerEpoch: number;
  /** Batches of an epoch that are smaller than the batch size. */
  partialBatches: number;
  /** Time to read and decode all images once, as each epoch does; it crops and resizes them, too. */
  readSeconds: number;
  rowsPerSecond: number;
}

export interface BadImage extends BadRow {
  /** Index into the dataset. */
  row: number;
}

export interface ImagesReport {
  /** In pixels; null where no image can be read. */
  width: Spread | null;
  height: Spread | null;
  /** Rows whose image is smaller than what it is trained in, and is enlarged. */
  enlarged: number;
  /** Rows whose image is another row's, byte for byte: each list has the rows of one image. */
  duplicates: number[][];
  /** Rows whose image a viewer turns by its EXIF orientation, and training does not. */
  turned: number;
  /** Rows whose image has 16-bit grey, which becomes almost white, as in Pillow: values above 255 are cut off. */
  grey16: number;
  /** Rows whose image is AVIF, which decodes up to 79 levels away from Pillow's at hard edges. */
  avif: number;
}

export interface CaptionsReport {
  /** A row may have several. */
  count: number;
  /** Captions of nothing but white space are empty. */
  empty: number;
  /** BOS and EOS included; null without a tokenizer. */
  tokens: (Spread & { limit: number; truncated: number }) | null;
}

export interface Spread {
  min: number;
  median: number;
  max: number;
}

export interface BucketReport {
  /** In pixels. */
  width: number;
  height: number;
  rows: number;
  /** In an epoch. */
  batches: number;
  /** Rows of the last, smaller batch; 0 where all are full. */
  partial: number;
}

/** Returns null if empty. */
export function spreadOf(values: readonly number[]): Spread | null {
  if (values.length === 0) return null;
  const sorted = Float64Array.from(values).sort();
  const at = (index: number): number => sorted[index] as number;
  const middle = (sorted.length - 1) / 2;
  return {
    min: at(0),
    median: (at(Math.floor(middle)) + at(Math.ceil(middle))) / 2,
    max: at(sorted.length - 1),
  };
}
