/** @file The checkpoints of a run, to export. */
import { useState } from 'preact/hooks';
import type { CheckpointInfo } from '../../src/studio/runs.js';
import { download, runPath } from './api.js';
import { bytes, count } from './format.js';
import { Empty, ErrorNote } from './parts.js';

export function Checkpoints({ id, checkpoints }: { id: string; checkpoints: readonly CheckpointInfo[] }) {
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
              <td class="actions">
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
