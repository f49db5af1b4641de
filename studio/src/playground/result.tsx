/** @file What is being generated, and the image that is looked at, alone or beside another. */
import { useState } from 'preact/hooks';
import type { PlaygroundJob } from '../../../src/studio/playground.js';
import { download } from '../api.js';
import { ApiImage, Progress } from '../parts.js';
import { galleryPath } from './gallery-image.js';

export function RunningJob({ job, onCancel }: { job: PlaygroundJob; onCancel: () => void }) {
  return (
    <section class="running-job" aria-label="Under way">
      {job.done > 0 && <Preview job={job} />}
      <div class="row">
        <p role="status">
          {job.total > 0
            ? `Step ${job.done} of ${job.total}`
            : job.loaded === 'adapters'
              ? 'Loading the adapter'
              : 'Loading the models'}
        </p>
        <button type="button" onClick={onCancel}>
          Cancel
        </button>
      </div>
      <Progress step={job.done} total={job.total} />
    </section>
  );
}

/** How the image looks after the last step, a pixel for each latent. */
function Preview({ job: { id, done } }: { job: PlaygroundJob }) {
  return (
    <ApiImage class="preview" path={`playground/jobs/${id}/preview?step=${done}`} alt="Preview" isQuiet />
  );
}

export function Shown({
  name,
  compared,
  onReference,
  onInitial,
  onRestore,
  onCompare,
  onRemove,
}: {
  name: string;
  /** The image that is laid over it. */
  compared: string | undefined;
  onReference: () => void;
  onInitial: () => void;
  onRestore: () => void;
  onCompare: (name: string | undefined) => void;
  onRemove: () => void;
}) {
  return (
    <section class="shown" aria-label="Image">
      {compared === undefined ? (
        <ApiImage class="large" path={galleryPath(name)} alt="Generated image" />
      ) : (
        <Compare a={compared} b={name} />
      )}
      <div class="tools">
        <button type="button" onClick={onReference}>
          Use as reference
        </button>
        <button type="button" onClick={onInitial}>
          Use as initial image
        </button>
        <button type="button" onClick={onRestore}>
          Restore its settings
        </button>
        {compared === undefined ? (
          <button type="button" onClick={() => onCompare(name)}>
            Compare from here
          </button>
        ) : (
          <button type="button" onClick={() => onCompare(undefined)}>
            End comparison
          </button>
        )}
        <button type="button" onClick={() => download(galleryPath(name), name)}>
          Download
        </button>
        <button type="button" class="danger" onClick={onRemove}>
          Remove
        </button>
      </div>
    </section>
  );
}

/** Two images, one over the other, and a slider that uncovers. */
function Compare({ a, b }: { a: string; b: string }) {
  const [at, setAt] = useState(50);
  return (
    <div class="compare">
      <div class="pair">
        <ApiImage class="large" path={galleryPath(b)} alt="B, right" />
        <div class="over" style={{ clipPath: `inset(0 ${100 - at}% 0 0)` }}>
          <ApiImage class="large" path={galleryPath(a)} alt="A, left" />
        </div>
        <i style={{ left: `${at}%` }} />
      </div>
      <label class="slider">
        <span>A left, B right</span>
        <input
          type="range"
          min={0}
          max={100}
          value={at}
          onInput={(event) => setAt(event.currentTarget.valueAsNumber)}
        />
      </label>
    </div>
  );
}
