/** @file The checkpoints of a run, to export. */
import { useState } from 'preact/hooks';
import { adapterForms } from '../../src/options/adapter-forms.js';
import type { CheckpointInfo } from '../../src/studio/runs.js';
import { download, runPath } from './api.js';
import { bytes, count } from './format.js';
import { Empty, ErrorNote } from './parts.js';

export function Checkpoints({ id, checkpoints }: { id: string; checkpoints: readonly CheckpointInfo[] }) {
  const [error, setError] = useState<unknown>();
  /** What is being exported. */
  const [going, setGoing] = useState<string>();
  const save = async (step: number, form: string): Promise<void> => {
    setError(undefined);
    setGoing(`${step} ${form}`);
    await download(runPath(id, `checkpoints/${step}/adapter?form=${form}`)).catch(setError);
    setGoing(undefined);
  };
  if (checkpoints.length === 0)
    return (
      <Empty title="No checkpoints yet">
        <p>One is written at the end, and whenever you press Save now.</p>
      </Empty>
    );
  return (
    <>
      <ErrorNote error={error} />
      <p class="hint">
        .safetensors for this package, diffusers and ComfyUI; .bin for what loads adapters with torch.load.
      </p>
      <table>
        <thead>
          <tr>
            <th scope="col">Step</th>
            <th scope="col">Size</th>
            <th scope="col" class="actions">
              Export the adapter
            </th>
          </tr>
        </thead>
        <tbody>
          {[...checkpoints].reverse().map(({ step, bytes: size }) => (
            <tr key={step}>
              <td>{count(step)}</td>
              <td>{bytes(size)}</td>
              <td class="actions">
                {adapterForms.map((form) => (
                  <button
                    key={form}
                    type="button"
                    disabled={going !== undefined}
                    aria-label={`Export the adapter of step ${step} as .${form}`}
                    onClick={() => save(step, form)}
                  >
                    {going === `${step} ${form}` ? 'Exporting…' : `.${form}`}
                  </button>
                ))}
              </td>
            </tr>
          ))}
        </tbody>
      </table>
    </>
  );
}
