/** @file Chooses a preset of a new run, and shows what it sets. */
import type { PresetField } from '../../src/studio/train-fields.js';

export function Presets({
  presets,
  chosen,
  overridden,
  onChoose,
}: {
  presets: readonly PresetField[];
  /** '' for none. */
  chosen: string;
  /** Whether the form has a value of its own for an option. */
  overridden: (option: string) => boolean;
  onChoose: (name: string) => void;
}) {
  const preset = presets.find(({ name }) => name === chosen);
  const choices = [{ name: '', help: 'every option has its own default' }, ...presets];
  return (
    <fieldset class="run-presets">
      <legend>Preset</legend>
      <div class="choices">
        {choices.map(({ name, help }) => (
          <label key={name} class="choice">
            <input
              type="radio"
              name="preset"
              value={name}
              checked={chosen === name}
              onChange={() => onChoose(name)}
            />
            <span>
              <b>{name === '' ? 'none' : name}</b>
              <small>{help}</small>
            </span>
          </label>
        ))}
      </div>
      {preset !== undefined && (
        <p class="sets">
          It sets{' '}
          {Object.entries(preset.sets).map(([option, value]) => (
            <code key={option} class={overridden(option) ? 'overridden' : ''}>
              {option} {[value].flat().join(' ')}
            </code>
          ))}
          {Object.keys(preset.sets).some(overridden) && (
            <small>Struck out is what your own values replace.</small>
          )}
        </p>
      )}
    </fieldset>
  );
}
