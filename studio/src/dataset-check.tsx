/** @file Checks a dataset and shows what was found: its facts, its problems, and rows as the encoders see them. */
import { useEffect, useRef, useState } from 'preact/hooks';
import type { CheckSamples, CheckSummary } from '../../src/options/check-messages.js';
import type { DatasetCheck } from '../../src/studio/dataset-checks.js';
import { api, json } from './api.js';
import { count } from './format.js';
import { ErrorNote, Progress } from './parts.js';

const EVERY_MS = 400;

export interface UsedCheck {
  check: DatasetCheck | undefined;
  /** @param body the options of a new run, of which the check takes what concerns it @throws ApiError */
  start: (body: { options: Record<string, unknown>; preset?: string }) => Promise<void>;
  cancel: () => void;
  /** Cancels, and shows nothing. */
  forget: () => void;
  error: unknown;
}

/** A check that the page has started. It ends with the page. */
export function useDatasetCheck(): UsedCheck {
  const [id, setId] = useState<string>();
  const [check, setCheck] = useState<DatasetCheck>();
  const [error, setError] = useState<unknown>();
  const running = useRef<string>();
  const isRunning = id !== undefined && (check === undefined || check.status === 'running');
  running.current = isRunning ? id : undefined;
  const stop = async (): Promise<void> => {
    const going = running.current;
    running.current = undefined;
    if (going !== undefined) await api.datasets.checks[':id'].$delete({ param: { id: going } });
  };
  useEffect(() => {
    if (!isRunning) return;
    let isGone = false;
    const ask = async (): Promise<void> => {
      try {
        const found = (await json(api.datasets.checks[':id'].$get({ param: { id } }))) as DatasetCheck;
        if (isGone) return;
        setCheck(found);
        setError(undefined);
        if (found.status !== 'running') return;
      } catch (fault) {
        if (!isGone) setError(fault);
      }
      timer = setTimeout(ask, EVERY_MS);
    };
    let timer = setTimeout(ask, EVERY_MS / 4);
    return () => {
      isGone = true;
      clearTimeout(timer);
    };
  }, [id, isRunning]);
  useEffect(() => () => void stop(), []);
  const forget = (): void => {
    void stop();
    setCheck(undefined);
    setId(undefined);
    setError(undefined);
  };
  return {
    ...{ check, error, forget },
    start: async (body) => {
      forget();
      setId(((await json(api.datasets.checks.$post({ json: body } as never))) as { id: string }).id);
    },
    cancel: () => void stop(),
  };
}

export function CheckReport({ used: { check, cancel, error } }: { used: UsedCheck }) {
  if (check === undefined) return <ErrorNote error={error} />;
  const { status, done, total, samples, samplesFault, summary, fault } = check;
  return (
    <div class="check" aria-busy={status === 'running'}>
      {status === 'running' && (
        <div class="going">
          <Progress step={done} total={total} label="Images read" />
          <p role="status">
            {total === 0 ? 'Reading the lists' : `${count(done)} of ${count(total)} images read`}
          </p>
          <button type="button" onClick={cancel}>
            Cancel the check
          </button>
        </div>
      )}
      {status === 'cancelled' && <p class="hint">The check was cancelled after {count(done)} images.</p>}
      <ErrorNote error={error} />
      {fault !== undefined && <p class="error">{fault.error}</p>}
      {summary !== undefined && <Summary summary={summary} />}
      {samplesFault !== undefined && fault === undefined && (
        <p class="error">No rows are shown as the encoder sees them: {samplesFault.error}</p>
      )}
      {samples !== undefined && <Samples samples={samples} />}
    </div>
  );
}

function Summary({ summary: { facts, buckets, problems } }: { summary: CheckSummary }) {
  return (
    <>
      <p class={problems.length === 0 ? 'verdict-line good' : 'verdict-line'}>
        <strong>
          {problems.length === 0
            ? 'Every image can be read and has captions, and nothing is left out.'
            : problems.map(({ title, count: n }) => `${title}: ${count(n)}`).join('. ')}
        </strong>
      </p>
      {problems
        .filter(({ shown }) => shown.length > 0)
        .map(({ title, count: n, shown }) => (
          <details key={title} class="problem">
            <summary>
              {title} ({count(n)})
            </summary>
            <ul>
              {shown.map(({ file, reason }) => (
                <li key={file}>
                  <code>{file}</code> {reason}
                </li>
              ))}
              {n > shown.length && (
                <li>and {count(n - shown.length)} more: ip-adapter data check --out has them</li>
              )}
            </ul>
          </details>
        ))}
      <dl class="facts">
        {facts.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
      {buckets.length > 0 && (
        <details class="problem">
          <summary>Sizes that are trained ({buckets.length})</summary>
          <table>
            <thead>
              <tr>
                <th scope="col">Size</th>
                <th scope="col">Rows</th>
                <th scope="col">Batches</th>
                <th scope="col">Last batch</th>
              </tr>
            </thead>
            <tbody>
              {buckets.map(({ width, height, rows, batches, partial }) => (
                <tr key={`${width}x${height}`}>
                  <th scope="row">
                    {width} × {height}
                  </th>
                  <td>{count(rows)}</td>
                  <td>{count(batches)}</td>
                  <td>{partial === 0 ? 'full' : partial}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </details>
      )}
    </>
  );
}

function Samples({ samples: { columns, rows } }: { samples: CheckSamples }) {
  return (
    <section aria-label="As the encoders see it">
      <h2>As the encoders see it in the first epoch</h2>
      <ul class="seen">
        {rows.map(({ facts, caption, images }) => (
          <li key={facts}>
            <div class="images">
              {images.map((url, i) => (
                <figure key={columns[i]}>
                  <img src={url} alt={`${columns[i]} of ${facts}`} />
                  <figcaption>{columns[i]}</figcaption>
                </figure>
              ))}
            </div>
            <p>{caption.trim() === '' ? <em>no caption</em> : caption}</p>
            <p class="hint">{facts}</p>
          </li>
        ))}
      </ul>
    </section>
  );
}
