/** @file One adapter of the playground: which, its references, and how much they count. */
import { useId } from 'preact/hooks';
import type { PlaygroundChoices } from '../../../src/studio/playground-choices.js';
import { Fault } from './fields.js';
import { type AdapterState, chosen, presets, type Reference } from './form.js';
import { Kept } from './kept-settings.js';
import { type Output, References } from './references.js';

export function AdapterCard({
  state,
  number,
  choices,
  output,
  errorOf,
  onChange,
  onRemove,
  onError,
}: {
  state: AdapterState;
  /** From 1. */
  number: number;
  choices: PlaygroundChoices;
  output: Output;
  errorOf: (name: string) => string | undefined;
  onChange: (state: AdapterState, model?: string) => void;
  onRemove?: (() => void) | undefined;
  onError: (error: unknown) => void;
}) {
  const id = useId();
  const groups = [...new Set(choices.adapters.map(({ group }) => group))];
  const isKnown = choices.adapters.some(({ path }) => path === state.adapter);
  const isPreset = presets.some(([type]) => type === state.weightType);
  return (
    <fieldset class="adapter">
      <legend class="hidden">Adapter {number}</legend>
      <div class="row">
        <label class="hidden" for={`${id}-adapter`}>
          Adapter
        </label>
        <select
          id={`${id}-adapter`}
          value={state.adapter}
          onChange={({ currentTarget: { value } }) => {
            const choice = choices.adapters.find(({ path }) => path === value);
            onChange(chosen(state, value, choice), choice?.model);
          }}
        >
          <option value="">No adapter: the text alone</option>
          {state.adapter !== '' && !isKnown && <option value={state.adapter}>{state.adapter}</option>}
          {groups.map((group) => (
            <optgroup key={group} label={group}>
              {choices.adapters
                .filter((choice) => choice.group === group)
                .map(({ path, name }) => (
                  <option key={path} value={path}>
                    {`${group.split('/').at(-1)}, ${name}`}
                  </option>
                ))}
            </optgroup>
          ))}
        </select>
        {onRemove !== undefined && (
          <button type="button" aria-label="Remove this adapter" onClick={onRemove}>
            ×
          </button>
        )}
      </div>
      <Fault text={errorOf('adapter') ?? errorOf('imageEncoder') ?? errorOf('images') ?? errorOf('masks')} />
      {state.adapter !== '' && (
        <>
          <References
            label={`Reference images of adapter ${number}`}
            references={state.references}
            output={output}
            onChange={(references: Reference[]) => onChange({ ...withoutWeights(state), references })}
            onError={onError}
          />
          <label class="slider">
            <span>Strength {state.scale.toFixed(2)}</span>
            <input
              type="range"
              min={0}
              max={1.5}
              step={0.05}
              value={state.scale}
              onInput={({ currentTarget }) => onChange({ ...state, scale: currentTarget.valueAsNumber })}
            />
          </label>
          <Fault text={errorOf('scale')} />
          <fieldset class="presets">
            <legend>Take from the images</legend>
            {presets.map(([type, title]) => (
              <label key={type}>
                <input
                  type="radio"
                  name={`${id}-preset`}
                  checked={state.weightType === type}
                  onChange={() => onChange({ ...state, weightType: type })}
                />{' '}
                {title}
              </label>
            ))}
            {!isPreset && <span class="hint">{state.weightType}</span>}
          </fieldset>
          <Kept settings={state.more} onRemove={() => onChange(withoutMore(state))} />
        </>
      )}
    </fieldset>
  );
}

function withoutMore({ more: _, ...state }: AdapterState): AdapterState {
  return state;
}

/** There is one weight for each reference. */
function withoutWeights(state: AdapterState): AdapterState {
  const { weights: _, ...more } = state.more ?? {};
  return Object.keys(more).length === 0 ? withoutMore(state) : { ...state, more };
}
