/** @file Looks at a dataset: its rows, references, masks, captions and groups, what is left out of it, and what cannot be read. */
import { useEffect, useState } from 'preact/hooks';
import type { DatasetPage } from '../../src/studio/dataset-messages.js';
import { ApiError, api, json } from './api.js';
import { CheckReport, useDatasetCheck } from './dataset-check.js';
import { DatasetRow, type DatasetView, Pages, queryOf } from './dataset-rows.js';
import { count } from './format.js';
import { Empty, ErrorNote, useLoaded, useTitle } from './parts.js';
import { RowFilters } from './row-filters.js';

/** Rows that are shown at a time. */
const PAGE = 48;
const NOTE_MS = 1000;

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
            placeholder="file, folder or address, as of --dataset"
            onChange={(event) => setPath(event.currentTarget.value.trim())}
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
            Start the studio with <code>--datasets</code> and the folders that have them, or write a path or
            the address of shards above.
          </p>
        </Empty>
      )}
    </>
  );
}

function Rows({ path }: { path: string }) {
  const [view, setView] = useState<DatasetView>({ masks: false, groupBy: '', filter: 'all', text: '' });
  const [from, setFrom] = useState(0);
  const used = useDatasetCheck();
  const [checkError, setCheckError] = useState<unknown>();
  const { masks, filter, text } = view;
  const change = (part: Partial<DatasetView>): void => {
    setView((now) => ({ ...now, ...part }));
    setFrom(0);
  };
  const checkId = used.check?.status === 'done' ? used.check.id : undefined;
  const query = {
    ...queryOf(path, view),
    ...{ filter, text, from: String(from), count: String(PAGE) },
    ...(checkId === undefined ? {} : { check: checkId }),
  };
  const { value: page, error } = useLoaded(
    (signal) =>
      json(api.datasets.rows.$get({ query } as never, { init: { signal } })) as Promise<DatasetPage>,
    JSON.stringify(query),
  );
  const [last, setLast] = useState<DatasetPage>();
  // While other rows are loaded, the old ones stay.
  useEffect(() => page && setLast(page), [page]);
  const isWaiting = page === undefined && error === undefined;
  const note = useNote(path, isWaiting);
  const startCheck = (): Promise<void> =>
    used
      // Masks are checked where a loss with masks uses them.
      .start({ options: { dataset: [path], ...(masks ? { maskedLoss: true } : {}) } })
      .then(() => setCheckError(undefined))
      .catch((fault) =>
        setCheckError(
          fault instanceof ApiError && Object.keys(fault.fields).length > 0
            ? new Error(Object.values(fault.fields).join('; '))
            : fault,
        ),
      );
  return (
    <section class="dataset-rows" aria-label="Rows" aria-busy={isWaiting}>
      {last !== undefined && <p class="hint">{last.description}</p>}
      <RowFilters
        view={view}
        hasCheck={checkId !== undefined}
        isChecking={used.check?.status === 'running'}
        onChange={(part) => {
          // Rows of a check with masks are others than those of one without.
          if (part.masks !== undefined) used.forget();
          change(part);
        }}
        onCheck={startCheck}
      />
      <ErrorNote error={checkError} />
      <CheckReport used={used} />
      <ErrorNote error={error} />
      {isWaiting && <div class="loading" />}
      {note !== undefined && (
        <p role="status" class="hint">
          {note}
        </p>
      )}
      {last !== undefined && error === undefined && (
        <>
          <div class="tools">
            <p role="status" class="hint">
              {last.matches === last.total
                ? `${count(last.total)} rows`
                : `${count(last.matches)} of ${count(last.total)} rows`}
            </p>
            <Pages from={from} matches={last.matches} page={PAGE} onMove={setFrom} />
          </div>
          <LeftOut page={last} />
          <ul class="rows">
            {last.rows.map((row) => (
              <DatasetRow key={row.index} name={queryOf(path, view)} row={row} />
            ))}
          </ul>
        </>
      )}
    </section>
  );
}

function LeftOut({ page: { leftOut, leftOutCount } }: { page: DatasetPage }) {
  if (leftOutCount === 0) return null;
  return (
    <details class="problem left-out">
      <summary>{count(leftOutCount)} left out</summary>
      <ul>
        {leftOut.map(({ file, reason }) => (
          <li key={`${file} ${reason}`}>
            <code>{file}</code> {reason}
          </li>
        ))}
      </ul>
    </details>
  );
}

/** What takes long while rows are waited for, such as a download. */
function useNote(path: string, isWaiting: boolean): string | undefined {
  const [note, setNote] = useState<string>();
  useEffect(() => {
    setNote(undefined);
    if (!isWaiting) return;
    const ask = async (): Promise<void> => {
      const answer = (await json(api.datasets.opening.$get({ query: { path } } as never))) as {
        note: string | null;
      };
      setNote(answer.note ?? undefined);
    };
    // A studio that does not answer is told of by the rows.
    const timer = setInterval(() => ask().catch(() => {}), NOTE_MS);
    return () => clearInterval(timer);
  }, [path, isWaiting]);
  return isWaiting ? note : undefined;
}
