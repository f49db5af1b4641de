/** @file Looks at a dataset: its rows, references, captions and groups, and what is left out of it. */
import { useEffect, useState } from 'preact/hooks';
import { type DatasetPage, type DatasetRowInfo, rowFilters } from '../../src/studio/dataset-messages.js';
import { api, json } from './api.js';
import { count } from './format.js';
import { ApiImage, Empty, ErrorNote, useLoaded, useTitle } from './parts.js';

/** Rows that are shown at a time. */
const PAGE = 48;

export function DatasetsPage() {
  useTitle('Datasets');
  const { value: found, error } = useLoaded(() => json(api.datasets.$get()), 'datasets');
  const [path, setPath] = useState('');
  const chosen = path === '' ? (found?.[0] ?? '') : path;
  return (
    <>
      <header class="head">
        <h1>Datasets</h1>
      </header>
      <ErrorNote error={error} />
      {found !== undefined && (
        <label class="field dataset-path">
          <span class="name">Dataset</span>
          <input
            value={chosen}
            list="datasets"
            placeholder="file or folder, as of --dataset"
            onChange={(event) => setPath(event.currentTarget.value)}
          />
          <datalist id="datasets">
            {found.map((one) => (
              <option key={one} value={one} />
            ))}
          </datalist>
        </label>
      )}
      {chosen !== '' && <Rows key={chosen} path={chosen} />}
      {found?.length === 0 && path === '' && (
        <Empty title="No dataset was found">
          <p>
            Start the studio with <code>--datasets</code> and the folders that have them, or write a path
            above.
          </p>
        </Empty>
      )}
    </>
  );
}

function Rows({ path }: { path: string }) {
  const [filter, setFilter] = useState<string>('all');
  const [text, setText] = useState('');
  const [from, setFrom] = useState(0);
  useEffect(() => setFrom(0), [filter, text]);
  const query = { path, filter, text, from: String(from), count: String(PAGE) };
  const { value: page, error } = useLoaded(
    () => json(api.datasets.rows.$get({ query } as never)) as Promise<DatasetPage>,
    JSON.stringify(query),
  );
  const [last, setLast] = useState<DatasetPage>();
  // While other rows are loaded, the old ones stay.
  useEffect(() => page && setLast(page), [page]);
  if (error !== undefined) return <ErrorNote error={error} />;
  if (last === undefined) return <div class="loading" aria-busy="true" />;
  const { total, matches, description, rows, leftOut, leftOutCount } = last;
  return (
    <section class="dataset-rows" aria-label="Rows" aria-busy={page === undefined}>
      <p class="hint">{description}</p>
      <div class="tools">
        <select aria-label="Show" value={filter} onChange={(event) => setFilter(event.currentTarget.value)}>
          {rowFilters.map((one) => (
            <option key={one} value={one}>
              {one === 'all' ? 'every row' : one}
            </option>
          ))}
        </select>
        <input
          type="search"
          placeholder="Find in captions and names"
          aria-label="Find in captions and names"
          onChange={(event) => setText(event.currentTarget.value)}
        />
        <p role="status" class="hint">
          {matches === total ? `${count(total)} rows` : `${count(matches)} of ${count(total)} rows`}
        </p>
        <Pages from={from} matches={matches} onMove={setFrom} />
      </div>
      {leftOutCount > 0 && (
        <details class="left-out">
          <summary>{count(leftOutCount)} left out</summary>
          <ul>
            {leftOut.map(({ file, reason }) => (
              <li key={`${file} ${reason}`}>
                <code>{file}</code>: {reason}
              </li>
            ))}
          </ul>
        </details>
      )}
      <ul class="rows">
        {rows.map((row) => (
          <Row key={row.index} path={path} row={row} />
        ))}
      </ul>
    </section>
  );
}

function Pages({ from, matches, onMove }: { from: number; matches: number; onMove: (from: number) => void }) {
  return (
    <div class="row pages">
      <button type="button" disabled={from === 0} onClick={() => onMove(Math.max(0, from - PAGE))}>
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
      <button type="button" disabled={from + PAGE >= matches} onClick={() => onMove(from + PAGE)}>
        Next
      </button>
    </div>
  );
}

function Row({
  path,
  row: { index, name, reference, captions, group },
}: {
  path: string;
  row: DatasetRowInfo;
}) {
  const image = (which: 'image' | 'reference'): string =>
    `datasets/image?${new URLSearchParams({ path, index: String(index), which, width: '256' })}`;
  return (
    <li class="data-row">
      <div class="images">
        <ApiImage path={image('image')} alt={`Image of row ${index + 1}`} />
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
