/** @file What the studio asks the process that reads datasets, and what it answers. */

/** Rows that are shown. */
export const rowFilters = [
  ...(['all', 'no caption', 'several captions', 'same caption', 'another reference', 'same file'] as const),
  /** With masks. */
  'no mask',
  /** With a way of grouping. */
  ...(['grouped', 'alone in its group'] as const),
  /** Of a check that has read every image. */
  ...(['cannot be read', 'same image'] as const),
] as const;
export type RowFilter = (typeof rowFilters)[number];

/** A dataset, and what of its rows is read besides images and captions. */
export interface DatasetName {
  path: string;
  masks: boolean;
  /** As `--group-by`. */
  groupBy?: string | undefined;
}

export interface RowsQuery extends DatasetName {
  filter: RowFilter;
  /** Part of a caption or of the name of an image, in any case; '' is in all. */
  text: string;
  /** The first of the rows that match, from 0, and how many. */
  from: number;
  count: number;
}

export interface DatasetPage {
  description: string;
  /** Rows of the dataset, and those that match. */
  total: number;
  matches: number;
  rows: DatasetRowInfo[];
  /** Samples that are not among the rows, and files that are not used, each with the reason; the first ones. */
  leftOut: { file: string; reason: string }[];
  leftOutCount: number;
}

export interface DatasetRowInfo {
  index: number;
  name: string;
  /** The name of the reference image where it is another one. */
  reference?: string;
  captions: string[];
  group?: string;
  hasMask?: boolean;
}

export interface ImageQuery extends DatasetName {
  index: number;
  which: 'image' | 'reference' | 'mask';
  width: number;
}

/** Rows by their index, ascending. */
export interface CheckedRows {
  /** Of the check. */
  id: string;
  rows: Uint32Array;
}

/** What the process is started with. */
export interface ReaderSettings {
  /** The folders that files may be in. */
  roots: readonly string[];
  /** GB of remote shards on disk. */
  shardCacheSize?: number | undefined;
}

export type ToReader = { id: number } & (
  | {
      type: 'rows';
      query: RowsQuery;
      /** The rows that a check has found, of which those that match are asked for. Default: all. */
      among?: CheckedRows | undefined;
    }
  | { type: 'image'; query: ImageQuery }
  /** Nobody waits for the answer any more. */
  | { type: 'cancel' }
);

export type FromReader = { id: number } & (
  | { page: DatasetPage }
  | { webp: Uint8Array }
  /** What takes long, such as a download. */
  | { note: string }
  /** `isFault`: of this package, not of the dataset. */
  | { error: string; isFault: boolean }
);
