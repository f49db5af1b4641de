/** @file The playground's text, seed and number of images, and the settings that are folded away. */
import type { ComponentChildren } from 'preact';
import type { PlaygroundChoices } from '../../../src/studio/playground-choices.js';
import { Fault } from './fields.js';
import type { FormState } from './form.js';
import { Kept } from './kept-settings.js';

interface About {
  id: string;
  'aria-invalid': boolean;
  'aria-describedby': string;
}

/** A field with its name above and what is wrong with it below. */
function Labelled({
  name,
  title,
  error,
  children,
}: {
  name: string;
  title: string;
  error: string | undefined;
  children: (about: About) => ComponentChildren;
}) {
  const id = `playground-${name}`;
  return (
    <div class="field">
      <label class="name" for={id}>
        {title}
      </label>
      {children({ id, 'aria-invalid': error !== undefined, 'aria-describedby': `${id}-fault` })}
      <div id={`${id}-fault`}>
        <Fault text={error} />
      </div>
    </div>
  );
}

interface Props {
  state: FormState;
  choices: PlaygroundChoices;
  errors: Readonly<Record<string, string>>;
  onChange: (change: Partial<FormState>) => void;
  /** Further groups of settings that are folded away. */
  children: ComponentChildren;
}

const folded = ['model', 'width', 'height', 'steps', 'guidanceScale', 'scheduler'];

export function SettingsFields({ state, choices, errors, onChange, children }: Props) {
  const number = (name: 'seed' | 'numImages' | 'steps' | 'guidanceScale', title: string, step = 1) => (
    <Labelled name={name} title={title} error={errors[name]}>
      {(about) => (
        <input
          {...about}
          type="number"
          step={step}
          value={state[name]}
          onInput={({ currentTarget: { valueAsNumber } }) =>
            Number.isNaN(valueAsNumber) || onChange({ [name]: valueAsNumber })
          }
        />
      )}
    </Labelled>
  );
  const text = (
    name: 'model' | 'negativePrompt' | 'width' | 'height',
    title: string,
    more: { placeholder?: string; list?: string } = {},
  ) => (
    <Labelled name={name} title={title} error={errors[name]}>
      {(about) => (
        <input
          {...about}
          {...more}
          value={state[name]}
          onInput={({ currentTarget: { value } }) => onChange({ [name]: value })}
        />
      )}
    </Labelled>
  );
  const encoder = (i: number) => (
    <Labelled
      key={i}
      name={`imageEncoder${i}`}
      title={state.adapters.length === 1 ? 'Image encoder' : `Image encoder of adapter ${i + 1}`}
      error={undefined}
    >
      {(about) => (
        <input
          {...about}
          value={state.adapters[i]?.imageEncoder}
          list="image-encoders"
          onInput={({ currentTarget: { value } }) =>
            onChange({
              adapters: state.adapters.map((one, k) => (k === i ? { ...one, imageEncoder: value } : one)),
            })
          }
        />
      )}
    </Labelled>
  );
  const isFromImage = state.initImage !== undefined || state.controls[0]?.image !== undefined;
  const ownSize = isFromImage ? 'the image’s own' : 'the model’s own';
  return (
    <>
      <Labelled name="prompt" title="Prompt" error={errors.prompt}>
        {(about) => (
          <textarea
            {...about}
            rows={3}
            value={state.prompt}
            onInput={(event) => onChange({ prompt: event.currentTarget.value })}
          />
        )}
      </Labelled>
      {text('negativePrompt', 'Negative prompt')}
      <div class="pair-of-fields">
        {number('seed', 'Seed')}
        {number('numImages', 'Images')}
      </div>
      <button
        type="button"
        class="quiet"
        onClick={() => onChange({ seed: Math.floor(Math.random() * 2 ** 32) })}
      >
        Another seed
      </button>
      {children}
      <details open={folded.some((name) => errors[name] !== undefined)}>
        <summary>Model, size and sampler</summary>
        {text('model', 'Model', { placeholder: 'folder, file or name on the Hub', list: 'models' })}
        <datalist id="models">
          {choices.models.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
        {state.adapters.map((_, i) => encoder(i))}
        <datalist id="image-encoders">
          {choices.imageEncoders.map((one) => (
            <option key={one} value={one} />
          ))}
        </datalist>
        <div class="pair-of-fields">
          {text('width', 'Width', { placeholder: ownSize })}
          {text('height', 'Height', { placeholder: ownSize })}
          {number('steps', 'Steps')}
          {number('guidanceScale', 'Guidance', 0.1)}
        </div>
        <Labelled name="scheduler" title="Sampler" error={errors.scheduler}>
          {(about) => (
            <select
              {...about}
              value={state.scheduler}
              onChange={(event) => onChange({ scheduler: event.currentTarget.value })}
            >
              <option value="">the model’s own</option>
              {choices.samplers.map((one) => (
                <option key={one}>{one}</option>
              ))}
            </select>
          )}
        </Labelled>
        <Kept settings={state.more} onRemove={() => onChange({ more: undefined })} />
      </details>
    </>
  );
}
