/** @file A run's page: curves, images, checkpoints, options and log, and the buttons that steer it. */
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { RequestEvent } from '../../src/base/run-context.js';
import type { CheckpointInfo, RunSummary } from '../../src/studio/runs.js';
import type { MetricsLine } from '../../src/studio/scalars.js';
import type { Sheet } from '../../src/studio/sheets.js';
import { api, json } from './api.js';
import { Checkpoints } from './checkpoints.js';
import { Curves } from './curves.js';
import { ago, count, duration, figure } from './format.js';
import { OptionsTable } from './options-table.js';
import { Empty, ErrorNote, Progress, Status, useLoaded, useTitle } from './parts.js';
import { RunData } from './run-data.js';
import { SampleGrid } from './sample-grid.js';
import { Steering } from './steering.js';
import { Verdicts } from './verdicts.js';

const EVERY_MS = 2000;
const tabs = ['Curves', 'Images', 'Checkpoints', 'Options', 'Log'] as const;

interface Detail {
  summary: RunSummary;
  folder: string;
  options: Record<string, unknown> | null;
  checkpoints: CheckpointInfo[];
  sheets: Sheet[];
  events: MetricsLine[];
}

/** Follows the curves of a run. The version changes with them. */
function useRunData(id: string): { data: RunData; version: number; isLost: boolean } {
  const data = useMemo(() => new RunData(id), [id]);
  const [version, setVersion] = useState(0);
  const [isLost, setLost] = useState(false);
  useEffect(() => {
    const abort = new AbortController();
    void data.follow(abort.signal, () => setVersion((now) => now + 1), setLost);
    return () => abort.abort();
  }, [data]);
  return { data, version, isLost };
}

export function RunPage({ id }: { id: string }) {
  useTitle(id);
  const param = { param: { id: encodeURIComponent(id) } };
  const {
    value: detail,
    error,
    reload,
  } = useLoaded(() => json(api.runs[':id'].$get(param)) as Promise<Detail>, id, EVERY_MS);
  const { data, version, isLost } = useRunData(id);
  const [tab, setTab] = useState<(typeof tabs)[number]>('Curves');
  if (detail === undefined)
    return error === undefined ? <div class="loading" aria-busy="true" /> : <ErrorNote error={error} />;
  const { summary } = detail;
  return (
    <>
      <header class="head run-head">
        <div>
          <p class="crumb">
            <a href="#/">Runs</a>
          </p>
          <h1>{id}</h1>
          <p class="sub">
            <Status status={summary.status} />
            <span>
              Step {count(summary.step)} of {count(summary.totalSteps)}
            </span>
            {summary.secondsLeft !== null && <span>{duration(summary.secondsLeft)} left</span>}
            {summary.stepSeconds !== null && <span>{figure(summary.stepSeconds)} s/step</span>}
          </p>
        </div>
        <Steering id={id} status={summary.status} onDone={reload} />
      </header>
      <Progress step={summary.step} total={summary.totalSteps} />
      <ErrorNote error={isLost ? new TypeError() : error} />
      <Verdicts events={detail.events} />
      <div class="tabs" role="tablist" aria-label="About the run">
        {tabs.map((name) => (
          <button
            key={name}
            type="button"
            role="tab"
            id={`tab-${name}`}
            aria-controls="panel"
            aria-selected={tab === name}
            tabIndex={tab === name ? 0 : -1}
            onClick={() => setTab(name)}
            onKeyDown={(event) => {
              const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
              if (by === undefined) return;
              const next = tabs[(tabs.indexOf(tab) + by + tabs.length) % tabs.length] as typeof tab;
              setTab(next);
              document.getElementById(`tab-${next}`)?.focus();
            }}
          >
            {name}
          </button>
        ))}
      </div>
      <div role="tabpanel" id="panel" aria-labelledby={`tab-${tab}`}>
        {tab === 'Curves' && <Curves id={id} data={data} version={version} />}
        {tab === 'Images' && <SampleGrid id={id} sheets={detail.sheets} curves={data.curves} />}
        {tab === 'Checkpoints' && <Checkpoints id={id} checkpoints={detail.checkpoints} />}
        {tab === 'Options' && <OptionsTable id={id} options={detail.options} folder={detail.folder} />}
        {tab === 'Log' && <Log id={id} events={detail.events} />}
      </div>
    </>
  );
}

function Log({ id, events }: { id: string; events: readonly MetricsLine[] }) {
  return (
    <>
      <Requests requests={events.filter((event): event is RequestEvent => event.type === 'request')} />
      <Output id={id} />
    </>
  );
}

/** What the run was asked for while it trained. */
function Requests({ requests }: { requests: readonly RequestEvent[] }) {
  if (requests.length === 0) return null;
  return (
    <details class="problem requests">
      <summary>Requests to the run ({requests.length})</summary>
      <ul>
        {requests.map(({ step, time, request, steps }) => (
          <li key={`${step} ${time}`}>
            Step {count(step)}: {request}
            {steps !== undefined && ` by ${count(steps)} steps`} <small>{ago(time)}</small>
          </li>
        ))}
      </ul>
    </details>
  );
}

function Output({ id }: { id: string }) {
  const param = { param: { id: encodeURIComponent(id) } };
  const { value, error } = useLoaded(() => json(api.runs[':id'].log.$get(param)), `log ${id}`, EVERY_MS);
  if (error !== undefined && value === undefined)
    return (
      <Empty title="No log">
        <p>The run was started in a shell, and its messages are there.</p>
      </Empty>
    );
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a text that scrolls must be reached by keyboard
    <pre class="log" tabIndex={0}>
      {value?.text}
    </pre>
  );
}
