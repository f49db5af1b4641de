/** @file What an epoch takes of a row: its references and how they are varied, what is dropped, the caption, mirroring. */
import type { Rows } from './dataset.js';
import type { Reference, Sample } from './examples.js';
import type { Groups } from './groups.js';
import type { MixedRow } from './mixture.js';
import { type ReferenceOptions, variantOf } from './reference-options.js';
import { captionFor, type DropRates, dropFor, flipFor } from './sampling.js';

export interface SampleOptions {
  readonly rows: Rows;
  /** Decides the order, the drops, the captions and the mirroring of every epoch. */
  readonly seed: number;
  /** Whether half of the rows are mirrored in each epoch, both images of a row together. Default: false. */
  readonly randomFlip?: boolean;
  /** The groups that references come from. Default: each row is its own reference. */
  readonly groups?: Groups | undefined;
  /** The references of a row, with groups. Default: 1. */
  readonly referencesPerRow?: number | undefined;
  /** What is done to references. Default: nothing. */
  readonly references?: ReferenceOptions | undefined;
  /** Returns how often a row drops its conditions. Default: as in the original. */
  readonly dropRatesOf?: ((row: number) => DropRates) | undefined;
}

/** Returns what an epoch takes of a row: a pure function of the seed, the epoch, and the row's number in it. */
export function sampleOf(options: SampleOptions, epoch: number, { row, draw }: MixedRow): Sample {
  const { rows, seed, randomFlip = false, dropRatesOf } = options;
  const { captions } = rows.at(row)!;
  const drop = dropFor(seed, epoch, draw, dropRatesOf?.(row));
  const caption = drop.dropText ? '' : captions[captionFor(seed, epoch, draw, captions.length)]!;
  const references = referencesFor(options, epoch, { row, draw });
  return { row, references, drop, caption, flip: randomFlip && flipFor(seed, epoch, draw) };
}

function referencesFor(
  { seed, groups, references, referencesPerRow: count = 1 }: SampleOptions,
  epoch: number,
  { row, draw }: MixedRow,
): Reference[] {
  const rows = groups === undefined ? [row] : groups.referencesOf(row, { seed, epoch, draw, count });
  return rows.map((row, place) => {
    const variant = references && variantOf(references, { seed, epoch, row, draw, place });
    return variant === undefined ? { row } : { row, variant };
  });
}
