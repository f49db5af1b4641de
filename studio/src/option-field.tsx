/** @file One option of a training in a form, with its help and what is wrong with it. */
import type { OptionField } from '../../src/studio/train-fields.js';

export function Field({
  field: { name, kind, choices = [], fallback, isRequired, help },
  value,
  preset,
  error,
  suggestions = [],
  onChange,
}: {
  field: OptionField;
  value: string | undefined;
  /** What the chosen preset sets. */
  preset: unknown;
  error: string | undefined;
  /** What the studio has found for it. */
  suggestions?: readonly string[] | undefined;
  onChange: (value: string) => void;
}) {
  const common = {
    id: `option-${name}`,
    value: value ?? '',
    'aria-invalid': error !== undefined,
    'aria-describedby': `help-${name}`,
  };
  const placeholder = preset === undefined ? shown(fallback) : `${shown(preset)} (preset)`;
  const input = (event: { currentTarget: { value: string } }): void => onChange(event.currentTarget.value);
  const options = kind === 'switch' ? ['true', 'false'] : choices;
  const isOverridden = preset !== undefined && value !== undefined && value !== '';
  return (
    <div class="field">
      <label class="name" for={`option-${name}`}>
        {name}
        {isRequired && <em> required</em>}
        {isOverridden && <em> in place of the preset’s {shown(preset)}</em>}
      </label>
      {kind === 'choice' || kind === 'switch' ? (
        <select {...common} onChange={input}>
          <option value="">
            {placeholder === '' || preset !== undefined
              ? placeholder || 'default'
              : `${placeholder} (default)`}
          </option>
          {options.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      ) : kind === 'list' ? (
        <>
          <textarea {...common} rows={2} placeholder={placeholder || 'one a line'} onInput={input} />
          <Found
            name={name}
            suggestions={suggestions.filter((one) => !value?.split('\n').includes(one))}
            onAdd={(one) => onChange([...(value ? [value.replace(/\n$/, '')] : []), one].join('\n'))}
          />
        </>
      ) : (
        <>
          <input
            {...common}
            inputMode={kind === 'number' ? 'decimal' : 'text'}
            placeholder={placeholder}
            list={suggestions.length > 0 ? `found-${name}` : undefined}
            onInput={input}
          />
          {suggestions.length > 0 && (
            <datalist id={`found-${name}`}>
              {suggestions.map((one) => (
                <option key={one} value={one} />
              ))}
            </datalist>
          )}
        </>
      )}
      <span class="help" id={`help-${name}`}>
        {error !== undefined && <strong>{error}</strong>} {help}
      </span>
    </div>
  );
}

/** Adds to a list what the studio has found. */
function Found({
  name,
  suggestions,
  onAdd,
}: {
  name: string;
  suggestions: readonly string[];
  onAdd: (one: string) => void;
}) {
  if (suggestions.length === 0) return null;
  return (
    <select
      aria-label={`Add to ${name}`}
      value=""
      onChange={({ currentTarget }) => currentTarget.value && onAdd(currentTarget.value)}
    >
      <option value="">Add one of the studio’s…</option>
      {suggestions.map((one) => (
        <option key={one}>{one}</option>
      ))}
    </select>
  );
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return value.join(' ');
  return value === undefined || typeof value === 'object' ? '' : String(value);
}
