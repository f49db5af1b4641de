/** @file The playground's text, seed and number of images, and the settings that are folded away. */
import type { PlaygroundChoices } from '../../../src/studio/playground-choices.js';
import { Fault } from './adapter-card.js';
import type { FormState } from './form.js';

interface Props {
  state: FormState;
  choices: PlaygroundChoices;
  errors: Readonly<Record<string, string>>;
  onChange: (change: Partial<FormState>) => void;
}

export function SettingsFields({ state, choices, errors, onChange }: Props) {
  const number = (name: 'seed' | 'numImages' | 'steps' | 'guidanceScale', title: string, step = 1) => (
    <label class="field">
      <span class="name">{title}</span>
      <input
        type="number"
        min={name === 'seed' ? 0 : 1}
        step={step}
        value={state[name]}
        aria-invalid={errors[name] !== undefined}
        onInput={({ currentTarget: { valueAsNumber } }) =>
          Number.isNaN(valueAsNumber) || onChange({ [name]: valueAsNumber })
        }
      />
      <Fault text={errors[name]} />
    </label>
  );
  const text = (name: 'model' | 'width' | 'height', title: string, placeholder: string, list?: string) => (
    <label class="field">
      <span class="name">{title}</span>
      <input
        value={state[name]}
        placeholder={placeholder}
        list={list}
        aria-invalid={errors[name] !== undefined}
        onInput={({ currentTarget: { value } }) => onChange({ [name]: value })}
      />
      <Fault text={errors[name]} />
    </label>
  );
  const encoder = (i: number) => (
    <label key={i} class="field">
      <span class="name">
        {state.adapters.length === 1 ? 'Image encoder' : `Image encoder of adapter ${i + 1}`}
      </span>
      <input
        value={state.adapters[i]?.imageEncoder}
        list="image-encoders"
        onInput={({ currentTarget: { value } }) =>
          onChange({
            adapters: state.adapters.map((one, k) => (k === i ? { ...one, imageEncoder: value } : one)),
          })
        }
      />
    </label>
  );
  return (
    <>
      <label class="field">
        <span class="name">Prompt</span>
        <textarea
          rows={3}
          value={state.prompt}
          onInput={(event) => onChange({ prompt: event.currentTarget.value })}
        />
        <Fault text={errors.prompt} />
      </label>
      <label class="field">
        <span class="name">Negative prompt</span>
        <input
          value={state.negativePrompt}
          onInput={(event) => onChange({ negativePrompt: event.currentTarget.value })}
        />
        <Fault text={errors.negativePrompt} />
      </label>
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
      <details open={errors.model !== undefined}>
        <summary>Model, size and sampler</summary>
        {text('model', 'Model', 'folder, file or name on the Hub', 'models')}
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
          {text('width', 'Width', 'the model’s own')}
          {text('height', 'Height', 'the model’s own')}
          {number('steps', 'Steps')}
          {number('guidanceScale', 'Guidance', 0.1)}
        </div>
        <label class="field">
          <span class="name">Sampler</span>
          <select
            value={state.scheduler}
            onChange={(event) => onChange({ scheduler: event.currentTarget.value })}
          >
            <option value="">the model’s own</option>
            {choices.samplers.map((one) => (
              <option key={one}>{one}</option>
            ))}
          </select>
          <Fault text={errors.scheduler} />
        </label>
      </details>
    </>
  );
}
