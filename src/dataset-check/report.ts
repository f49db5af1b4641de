/** @file The report of `ip-adapter data check`. */
import type { BadRow } from '../base/listing.js';
import type { DropRates } from '../data/sampling.js';

export interface DatasetReport {
  /** A description of the dataset, such as 'Folder: 40 images with captions in photos'. */
  dataset: string;
  rows: number;
  /** What each dataset adds, in their order. */
  datasets: DatasetPart[];
  /** Rows with an image that cannot be read, which training skips. */
  badRows: BadImage[];
  /** Samples without an image or a caption, which are not rows. */
  incomplete: BadRow[];
  /** Files and folders that look like part of the dataset but are not used. */
  leftOut: BadRow[];
  /** Facts about the images that can be read. */
  images: ImagesReport;
  captions: CaptionsReport;
  /** With `groupBy`; otherwise null. */
  groups: GroupsReport | null;
  /** With masks; otherwise null. */
  masks: MasksReport | null;
  /** The training sizes and their rows in an epoch; without buckets only the square. */
  buckets: BucketReport[];
  /** The number of batches in the first epoch that have a row which can be read. */
  stepsPerEpoch: number;
  /** The number of these batches that have fewer of them than the batch size. */
  partialBatches: number;
  /** The time to read and decode all images once. An epoch of training crops and resizes them, too. */
  readSeconds: number;
  rowsPerSecond: number;
}

export interface DatasetPart {
  /** As it was given, such as 'photos/'. */
  name: string;
  rows: number;
  /** The number of its rows in an epoch, as repeats or weights have it. */
  rowsInEpoch: number;
  /** Shares of its rows that drop a condition, 0 to 1. */
  drops: DropRates;
  /** Text before every caption; '' is none. */
  captionPrefix: string;
}

export interface BadImage extends BadRow {
  /** Index into the dataset. */
  row: number;
}

export interface ImagesReport {
  /** Widths in pixels; null where no image can be read. */
  width: Spread | null;
  height: Spread | null;
  /** The number of images that are smaller than their training size, and are enlarged. */
  enlarged: number;
  /** Rows whose images are equal byte for byte, one list for each image. */
  duplicates: number[][];
  /** The number of images that a viewer rotates by their EXIF orientation, and training does not. */
  turned: number;
  /** The number of images in 16-bit grey. They become almost white, as in Pillow, since values above 255 are clipped. */
  grey16: number;
  /** The number of AVIF images, which decode up to 79 levels away from Pillow at hard edges. */
  avif: number;
}

export interface CaptionsReport {
  /** The number of captions. A row may have several. */
  count: number;
  /** The number of captions that are empty or only white space. */
  empty: number;
  /** The number of tokens of a caption, with BOS and EOS; null without a tokenizer. */
  tokens: (Spread & { limit: number; truncated: number }) | null;
}

export interface GroupsReport {
  /** The number of groups of several rows. */
  count: number;
  /** The number of their rows, whose references are other rows of the group. */
  rows: number;
  /** The number of rows of a group. */
  size: Spread | null;
  /** The number of rows that are alone in a group. Each is its own reference. */
  alone: number;
  /** The number of rows without a group. Each is its own reference. */
  ungrouped: number;
}

interface MasksReport {
  /** The number of rows with a mask that can be used. */
  rows: number;
  /** How much of its image a mask shows, %. */
  percentShown: Spread | null;
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
  /** The rows of an epoch, with repeats, and with bad rows, whose places in the batches stay empty. */
  rows: number;
  /** The number of batches in an epoch. */
  batches: number;
  /** The number of rows in the last, smaller batch; 0 where all batches are full. */
  partial: number;
}

/** Returns minimum, median and maximum; null if empty. */
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
