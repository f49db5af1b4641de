/** @file What the studio asks the process that reads datasets, and what it answers. */

/** Rows that are shown. */
export const rowFilters = ['all', 'no caption', 'several captions', 'another reference', 'grouped'] as const;

export interface RowsQuery {
  /** Of the dataset. */
  path: string;
  filter: (typeof rowFilters)[number];
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
}

export interface ImageQuery {
  path: string;
  index: number;
  which: 'image' | 'reference';
  width: number;
}

export type ToReader = { id: number } & (
  | { type: 'rows'; query: RowsQuery }
  /** `roots`: the folders that files may be in. */
  | { type: 'image'; query: ImageQuery; roots: readonly string[] }
);

export type FromReader = { id: number } & (
  | { page: DatasetPage }
  | { webp: Uint8Array }
  /** `isFault`: of this package, not of the dataset. */
  | { error: string; isFault: boolean }
);
