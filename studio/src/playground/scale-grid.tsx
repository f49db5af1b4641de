/** @file The same image from several checkpoints, at several strengths. */
import { useState } from 'preact/hooks';
import type { PlaygroundJob } from '../../../src/studio/playground.js';
import type { PlaygroundChoices } from '../../../src/studio/playground-choices.js';
import { ApiImage } from '../parts.js';
import { galleryPath } from './gallery-image.js';

/** Jobs that wait at the same time are bounded. */
const MAX_CELLS = 60;

export function ScaleGrid({
  adapter,
  choices,
  jobs,
  onStart,
  onShow,
}: {
  /** The path of the first adapter. */
  adapter: string;
  choices: PlaygroundChoices;
  jobs: readonly PlaygroundJob[];
  /** Starts a job with another adapter and scale. @returns its id */
  onStart: (adapter: string, scale: number) => Promise<string | undefined>;
  onShow: (image: string) => void;
}) {
  const [scaleText, setScaleText] = useState('0, 0.5, 1');
  const [others, setOthers] = useState<readonly string[]>([]);
  /** Ids of jobs by adapter and scale. */
  const [cells, setCells] = useState<ReadonlyMap<string, string>>(new Map());
  const group = choices.adapters.find(({ path }) => path === adapter)?.group;
  const checkpoints = choices.adapters.filter((choice) => choice.group === group);
  if (adapter === '' || checkpoints.length === 0) return null;
  const rows = checkpoints.filter(({ path }) => path === adapter || others.includes(path));
  const beside = checkpoints.filter(({ path }) => path !== adapter);
  const scales = scaleText
    .split(',')
    .map((text) => text.trim())
    .filter((text) => text !== '' && Number(text) >= 0)
    .map(Number);
  const count = rows.length * scales.length;
  const start = async (): Promise<void> => {
    const started = new Map<string, string>();
    for (const { path } of rows)
      for (const scale of scales) {
        const id = await onStart(path, scale);
        if (id === undefined) return;
        started.set(`${path} ${scale}`, id);
        setCells(new Map(started));
      }
  };
  return (
    <details class="scale-grid">
      <summary>Grid of strengths and checkpoints</summary>
      <div class="row">
        <label>
          Strengths <input value={scaleText} onInput={(event) => setScaleText(event.currentTarget.value)} />
        </label>
        <button type="button" disabled={count === 0 || count > MAX_CELLS} onClick={start}>
          Generate {count} images
        </button>
      </div>
      {beside.length > 0 && (
        <fieldset class="presets">
          <legend>Beside the chosen one</legend>
          {beside.map(({ path, name }) => (
            <label key={path}>
              <input
                type="checkbox"
                checked={others.includes(path)}
                onChange={({ currentTarget: { checked } }) =>
                  setOthers(checked ? [...others, path] : others.filter((one) => one !== path))
                }
              />{' '}
              {name}
            </label>
          ))}
        </fieldset>
      )}
      {cells.size > 0 && (
        <div class="grid-scroll">
          <table class="grid">
            <thead>
              <tr>
                <td />
                {scales.map((scale) => (
                  <th key={scale} scope="col">
                    strength {scale}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {rows.map(({ path, name }) => (
                <tr key={path}>
                  <th scope="row">{name}</th>
                  {scales.map((scale) => {
                    const job = jobs.find(({ id }) => id === cells.get(`${path} ${scale}`));
                    const image = job?.images[0];
                    return (
                      <td key={scale}>
                        {image === undefined ? (
                          <p class="hint">{job?.status ?? ''}</p>
                        ) : (
                          <button
                            type="button"
                            class="cell"
                            aria-label={`${name}, strength ${scale}`}
                            onClick={() => onShow(image)}
                          >
                            <ApiImage path={galleryPath(image, 256)} alt="" />
                          </button>
                        )}
                      </td>
                    );
                  })}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </details>
  );
}
