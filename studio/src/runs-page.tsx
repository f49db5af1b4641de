/** @file The list of runs. */
import { useState } from 'preact/hooks';
import type { RunSummary } from '../../src/studio/runs.js';
import { api, json, runPath } from './api.js';
import { ago, count, duration, figure } from './format.js';
import { NotifyButton } from './notify.js';
import { ApiImage, Empty, ErrorNote, Progress, Status, useLoaded, useTitle } from './parts.js';

const EVERY_MS = 2000;

export function RunsPage() {
  useTitle('Runs');
  const { value: runs, error } = useLoaded(() => json(api.runs.$get()), 'runs', EVERY_MS);
  const [query, setQuery] = useState('');
  if (runs === undefined)
    return error === undefined ? <div class="loading" aria-busy="true" /> : <ErrorNote error={error} />;
  if (runs.length === 0)
    return (
      <Empty title="No runs yet" isPage>
        <p>
          Start one here, or in a shell with <code>ip-adapter train</code> and an <code>--output-dir</code> in
          the studio's folder: it appears by itself.
        </p>
        <a class="button primary" href="#/new">
          New run
        </a>
      </Empty>
    );
  const order = ['running', 'queued', 'failed', 'new', 'stopped', 'finished'];
  const shown = (runs as RunSummary[])
    .filter(({ id }) => id.toLowerCase().includes(query.toLowerCase()))
    .sort((a, b) => order.indexOf(a.status) - order.indexOf(b.status) || (b.time ?? 0) - (a.time ?? 0));
  return (
    <>
      <header class="head">
        <h1>Runs</h1>
        {runs.length > 5 && (
          <input
            type="search"
            placeholder="Find a run"
            aria-label="Find a run"
            value={query}
            onInput={(event) => setQuery(event.currentTarget.value)}
          />
        )}
        <NotifyButton />
        <a class="button primary" href="#/new">
          New run
        </a>
      </header>
      <ErrorNote error={error} />
      <ul class="runs">
        {shown.map((run) => (
          <RunRow key={run.id} run={run} />
        ))}
      </ul>
    </>
  );
}

function RunRow({ run }: { run: RunSummary }) {
  const {
    id,
    status,
    step,
    totalSteps,
    secondsLeft,
    stepSeconds,
    loss,
    gain,
    bestGain,
    verdict,
    sample,
    time,
  } = run;
  return (
    <li>
      <a href={`#/run/${encodeURIComponent(id)}`} class="run">
        {sample === null ? (
          <div class="thumb none" aria-hidden="true" />
        ) : (
          <ApiImage
            class="thumb"
            path={runPath(id, `samples/${sample}?width=256`)}
            alt={`Validation images of ${id} after step ${sample}`}
          />
        )}
        <div class="what">
          <h2>{id}</h2>
          <p class="sub">
            <Status status={status} />
            {verdict !== null && <span class="verdict">{verdict}</span>}
            {time !== null && <span>{ago(time)}</span>}
          </p>
          <Progress step={step} total={totalSteps} />
        </div>
        <dl>
          <div>
            <dt>Step</dt>
            <dd>
              {count(step)} <small>of {count(totalSteps)}</small>
            </dd>
          </div>
          <div>
            <dt>{secondsLeft === null ? 'Speed' : 'Left'}</dt>
            <dd>
              {secondsLeft !== null && `${duration(secondsLeft)} `}
              {stepSeconds === null ? '–' : <small>{figure(stepSeconds)} s/step</small>}
            </dd>
          </div>
          <div>
            <dt>Loss</dt>
            <dd>{loss === null ? '–' : figure(loss)}</dd>
          </div>
          <div>
            <dt>Gain</dt>
            <dd>
              {gain === null ? '–' : figure(gain.mean)}{' '}
              {bestGain !== null && <small>best {figure(bestGain.value)}</small>}
            </dd>
          </div>
        </dl>
      </a>
    </li>
  );
}
