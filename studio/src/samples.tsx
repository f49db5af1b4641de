/** @file The validation images of a run. */
import { useState } from 'preact/hooks';
import { runPath } from './api.js';
import { count } from './format.js';
import { ApiImage, Empty } from './parts.js';

export function Samples({ id, steps }: { id: string; steps: readonly number[] }) {
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
