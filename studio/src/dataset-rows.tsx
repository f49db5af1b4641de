/** @file The rows of a dataset, a page of them. */
import type { DatasetRowInfo, RowFilter } from '../../src/studio/dataset-messages.js';
import { count } from './format.js';
import { ApiImage } from './parts.js';

/** What of a dataset is shown. */
export interface DatasetView {
  masks: boolean;
  /** '' for none. */
  groupBy: string;
  filter: RowFilter;
  text: string;
}

/** Returns how requests name a dataset. */
export function queryOf(path: string, { masks, groupBy }: DatasetView): Record<string, string> {
  return { path, masks: String(masks), ...(groupBy === '' ? {} : { groupBy }) };
}

export function Pages({
  from,
  matches,
  page,
  onMove,
}: {
  from: number;
  matches: number;
  /** Rows of a page. */
  page: number;
  onMove: (from: number) => void;
}) {
  return (
    <div class="row pages">
      <button type="button" disabled={from === 0} onClick={() => onMove(Math.max(0, from - page))}>
        Before
      </button>
      <label>
        <span class="hidden">First row shown</span>
        <input
          type="number"
          min={1}
          max={Math.max(1, matches)}
          value={from + 1}
          onChange={({ currentTarget: { valueAsNumber } }) =>
            onMove(Math.min(Math.max(0, (valueAsNumber || 1) - 1), Math.max(0, matches - 1)))
          }
        />
      </label>
      <button type="button" disabled={from + page >= matches} onClick={() => onMove(from + page)}>
        Next
      </button>
    </div>
  );
}

export function DatasetRow({
  name: dataset,
  row: { index, name, reference, captions, group, hasMask = false },
}: {
  /** The dataset's. */
  name: Record<string, string>;
  row: DatasetRowInfo;
}) {
  const image = (which: 'image' | 'reference' | 'mask'): string =>
    `datasets/image?${new URLSearchParams({ ...dataset, index: String(index), which, width: '256' })}`;
  return (
    <li class="data-row">
      <div class="images">
        <div class={hasMask ? 'masked' : ''}>
          <ApiImage path={image('image')} alt={`Image of row ${index + 1}`} />
          {hasMask && <ApiImage class="mask" path={image('mask')} alt={`Mask of row ${index + 1}`} />}
        </div>
        {reference !== undefined && (
          <ApiImage path={image('reference')} alt={`Reference of row ${index + 1}`} />
        )}
      </div>
      {captions.map((caption, i) => (
        <p key={`${i} ${caption}`} class={caption.trim() === '' ? 'hint' : ''}>
          {caption.trim() === '' ? 'no caption' : caption}
        </p>
      ))}
      <p class="hint" title={name}>
        {count(index + 1)} · {name.split('/').at(-1)}
        {group !== undefined && ` · ${group}`}
      </p>
    </li>
  );
}
