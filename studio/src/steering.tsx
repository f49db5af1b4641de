/** @file What a run can be asked for, by its status. */
import { useState } from 'preact/hooks';
import type { RunStatus } from '../../src/studio/runs.js';
import { api, json } from './api.js';
import { count } from './format.js';
import { ErrorNote } from './parts.js';

export function Steering({ id, status, onDone }: { id: string; status: RunStatus; onDone: () => void }) {
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
      {(status === 'stopped' || status === 'failed' || status === 'new') && (
        <button
          type="button"
          class="primary"
          onClick={() =>
            act(status === 'new' ? 'Starting' : 'Resuming', () => json(api.runs[':id'].resume.$post(param)))
          }
        >
          {status === 'new' ? 'Start' : 'Resume'}
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
