/** @file A run's page: curves, images, checkpoints, options and log, and the buttons that steer it. */
import { useEffect, useMemo, useState } from 'preact/hooks';
import type { VerdictEvent } from '../../src/base/run-context.js';
import type { CheckpointInfo, RunSummary } from '../../src/studio/runs.js';
import type { MetricsLine } from '../../src/studio/scalars.js';
import { api, download, json, runPath } from './api.js';
import { Curves } from './curves.js';
import { bytes, count, duration, figure } from './format.js';
import { OptionsTable } from './options-table.js';
import { ApiImage, Empty, ErrorNote, Progress, Status, useLoaded, useTitle } from './parts.js';
import { RunData } from './run-data.js';

const EVERY_MS = 2000;
const tabs = ['Curves', 'Images', 'Checkpoints', 'Options', 'Log'] as const;

interface Detail {
  summary: RunSummary;
  folder: string;
  options: Record<string, unknown> | null;
  checkpoints: CheckpointInfo[];
  samples: number[];
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
      <Verdict events={detail.events} />
      <OtherVerdicts events={detail.events} />
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
        {tab === 'Images' && <Samples id={id} steps={detail.samples} />}
        {tab === 'Checkpoints' && <Checkpoints id={id} checkpoints={detail.checkpoints} />}
        {tab === 'Options' && <OptionsTable id={id} options={detail.options} folder={detail.folder} />}
        {tab === 'Log' && <Log id={id} />}
      </div>
    </>
  );
}

function Steering({ id, status, onDone }: { id: string; status: string; onDone: () => void }) {
  const [error, setError] = useState<unknown>();
  const [said, setSaid] = useState('');
  const [steps, setSteps] = useState(1000);
  const param = { param: { id: encodeURIComponent(id) } };
  const act = async (what: string, work: () => Promise<unknown>): Promise<void> => {
    setError(undefined);
    try {
      await work();
      setSaid(what);
    } catch (fault) {
      setError(fault);
    }
    onDone();
  };
  const ask = (request: string, what: string, more: object = {}) =>
    act(what, () =>
      json(api.runs[':id'].requests.$post({ ...param, json: { request, ...more } } as typeof param)),
    );
  return (
    <div class="steering">
      {status === 'running' && (
        <>
          <button type="button" onClick={() => ask('sample', 'Sampling after this step')}>
            Sample now
          </button>
          <button type="button" onClick={() => ask('save', 'Saving after this step')}>
            Save now
          </button>
          <form
            onSubmit={(event) => {
              event.preventDefault();
              void ask('extend', `Extended by ${count(steps)} steps`, { steps });
            }}
          >
            <label>
              <span class="hidden">Steps to extend by</span>
              <input
                type="number"
                min={1}
                value={steps}
                onInput={(event) => setSteps(event.currentTarget.valueAsNumber)}
              />
            </label>
            <button type="submit">Extend</button>
          </form>
          <button type="button" class="danger" onClick={() => ask('stop', 'Stopping after this step')}>
            Stop
          </button>
        </>
      )}
      {(status === 'stopped' || status === 'failed') && (
        <button
          type="button"
          class="primary"
          onClick={() => act('Resuming', () => json(api.runs[':id'].resume.$post(param)))}
        >
          Resume
        </button>
      )}
      {status === 'queued' && (
        <button
          type="button"
          onClick={() => act('Taken out of the queue', () => json(api.runs[':id'].queue.$delete(param)))}
        >
          Take out of the queue
        </button>
      )}
      <p role="status" class="said">
        {said}
      </p>
      <ErrorNote error={error} />
    </div>
  );
}

const statements: Readonly<Record<string, [tone: string, text: string]>> = {
  'uses the image': ['good', 'The adapter uses its image.'],
  harms: ['bad', 'With the adapter, predictions are worse than without it.'],
  'ignores the image': ['bad', 'The adapter has learnt, but the same from every image.'],
  unclear: ['', 'It is not clear yet whether the adapter uses its image.'],
};

/** Verdicts that are not of the gain, the newest of each kind. */
function OtherVerdicts({ events }: { events: readonly MetricsLine[] }) {
  const said = events.filter(
    (event): event is VerdictEvent =>
      event.type === 'verdict' && !((event as VerdictEvent).kind in statements),
  );
  const newest = [...new Map(said.map((event) => [event.kind, event])).values()];
  return (
    <>
      {newest.map(({ kind, step, text }) => (
        <p key={kind} class={`verdict-line ${kind.endsWith('drifts') ? 'bad' : ''}`}>
          <strong>{`${kind[0]?.toUpperCase()}${kind.slice(1)}.`}</strong> Step {count(step)}:{' '}
          {text.replace(/^Step \d+: /, '')}
        </p>
      ))}
    </>
  );
}

function Verdict({ events }: { events: readonly MetricsLine[] }) {
  const last = events.findLast(({ type }) => type === 'gain') as
    | {
        step: number;
        verdict: string;
        rows: number;
        specificity: { mean: number; low: number; high: number };
      }
    | undefined;
  if (last === undefined) return null;
  const [tone, text] = statements[last.verdict] ?? ['', last.verdict];
  const { mean, low, high } = last.specificity;
  return (
    <p class={`verdict-line ${tone}`}>
      <strong>{text}</strong> On {last.rows} held-out rows after step {count(last.step)}, the right image
      lowers the loss by {figure(mean)} ({figure(low)} … {figure(high)}) against another row's.
    </p>
  );
}

function Samples({ id, steps }: { id: string; steps: readonly number[] }) {
  const [chosen, setChosen] = useState<number>();
  if (steps.length === 0)
    return (
      <Empty title="No images yet">
        <p>
          A run draws them if it has validation images. <em>Sample now</em> draws a sheet at once.
        </p>
      </Empty>
    );
  const index = chosen === undefined ? steps.length - 1 : Math.max(0, steps.indexOf(chosen));
  const step = steps[index] as number;
  return (
    <section class="samples">
      <label class="slider">
        <span>Step {count(step)}</span>
        <input
          type="range"
          min={0}
          max={steps.length - 1}
          value={index}
          disabled={steps.length === 1}
          aria-valuetext={`Step ${step}`}
          onInput={(event) => setChosen(steps[event.currentTarget.valueAsNumber])}
        />
      </label>
      <div class="sheet">
        <ApiImage path={runPath(id, `samples/${step}`)} alt={`Validation images after step ${step}`} />
      </div>
    </section>
  );
}

function Checkpoints({ id, checkpoints }: { id: string; checkpoints: readonly CheckpointInfo[] }) {
  const [error, setError] = useState<unknown>();
  if (checkpoints.length === 0)
    return (
      <Empty title="No checkpoints yet">
        <p>One is written at the end, and whenever you press Save now.</p>
      </Empty>
    );
  return (
    <>
      <ErrorNote error={error} />
      <table>
        <thead>
          <tr>
            <th scope="col">Step</th>
            <th scope="col">Size</th>
            <th scope="col">
              <span class="hidden">Actions</span>
            </th>
          </tr>
        </thead>
        <tbody>
          {[...checkpoints].reverse().map(({ step, bytes: size }) => (
            <tr key={step}>
              <td>{count(step)}</td>
              <td>{bytes(size)}</td>
              <td>
                <button
                  type="button"
                  aria-label={`Export the adapter of step ${step}`}
                  onClick={() => download(runPath(id, `checkpoints/${step}/adapter`)).catch(setError)}
                >
                  Export
                </button>
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}

function Log({ id }: { id: string }) {
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
