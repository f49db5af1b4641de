/** @file Scores of generated images from embeddings: means over rows with their intervals, and differences of pairs. */
import type { ScoreSet } from '../base/run-context.js';
import { type Interval, interval, mean, shareInterval } from '../base/statistics.js';
import type { Tensor } from '../torch/index.js';
import type { ImageEmbeddings, Wanted } from './metrics.js';

/** An image whose pixels correlate with its reference's so much is a copy. */
const COPY = 0.95;

/** A value for each row, the mean over its images. */
export type RowValues = {
  [measure in keyof ScoreSet]: ScoreSet[measure] extends Interval ? number[] : number[] | null;
} & {
  /** Cosine to the reference images of the other rows. */
  clipIOthers: number[];
  clipScore: number[] | null;
};

/**
 * Measures generated images.
 * @param drawn of n rows, `imagesPerRow` each, row by row
 * @param shift the row that an image is compared with is so many rows later: 0 for its own
 */
export function valuesOf(drawn: ImageEmbeddings, wanted: Wanted, imagesPerRow: number, shift = 0): RowValues {
  const { references, captions } = wanted;
  const rows = references.clip.shape[0] as number;
  const count = rows * imagesPerRow;
  const target = (i: number): number => (Math.floor(i / imagesPerRow) + shift) % rows;
  const products = (images: Tensor, others: Tensor): number[] =>
    images.matmul(others.transpose(0, 1)).toNumbers();
  const toTarget = (all: readonly number[]): number[] =>
    Array.from({ length: count }, (_, i) => all[i * rows + target(i)] as number);
  const byRow = (values: readonly number[]): number[] =>
    Array.from({ length: rows }, (_, row) =>
      mean(values.slice(row * imagesPerRow, (row + 1) * imagesPerRow)),
    );

  const cosines = products(drawn.clip, references.clip);
  const own = toTarget(cosines);
  const ofImage = (i: number): number[] => cosines.slice(i * rows, (i + 1) * rows);
  const isNearest = own.map((_, i) => Number(ofImage(i).indexOf(Math.max(...ofImage(i))) === target(i)));
  const toOthers = own.map(
    (cosine, i) => (ofImage(i).reduce((sum, value) => sum + value, 0) - cosine) / (rows - 1),
  );
  const toCaption = captions && toTarget(products(drawn.clip, captions));
  const dino = drawn.dino && references.dino ? byRow(toTarget(products(drawn.dino, references.dino))) : null;
  const isCopy = toTarget(products(drawn.pixels, references.pixels)).map((value) => Number(value >= COPY));
  return {
    clipI: byRow(own),
    clipIOthers: byRow(toOthers),
    clipT: toCaption && byRow(toCaption),
    clipScore: toCaption && byRow(toCaption.map((cosine) => 2.5 * Math.max(cosine, 0))),
    dino,
    retrieval: byRow(isNearest),
    copies: byRow(isCopy),
  };
}

/** Returns means and intervals. Rows are what is independent, however many images one has. */
export function scoresOf({ clipI, clipT, dino, retrieval, copies }: RowValues): ScoreSet {
  const share = (values: readonly number[]): Interval => shareInterval(mean(values), values.length);
  return {
    clipI: interval(clipI),
    clipT: clipT && interval(clipT),
    dino: dino && interval(dino),
    retrieval: share(retrieval),
    copies: share(copies),
  };
}

/** Returns how much higher the scores of `a` are than those of `b`, which has the same rows, seeds and noise. */
export function differencesOf(a: RowValues, b: RowValues): ScoreSet {
  const paired = (one: readonly number[], other: readonly number[]): Interval =>
    interval(one.map((value, row) => value - (other[row] as number)));
  return {
    clipI: paired(a.clipI, b.clipI),
    clipT: a.clipT && b.clipT && paired(a.clipT, b.clipT),
    dino: a.dino && b.dino && paired(a.dino, b.dino),
    retrieval: paired(a.retrieval, b.retrieval),
    copies: paired(a.copies, b.copies),
  };
}
