/** @file Fields of the playground's form. */
import { useId } from 'preact/hooks';

export function Fault({ text }: { text: string | undefined }) {
  return text === undefined ? null : (
    <p class="error" role="alert">
      {text}
    </p>
  );
}

/** The path of a model, or its name on the Hub. */
export function PathField({
  title,
  value,
  choices,
  error,
  onChange,
  onRemove,
}: {
  title: string;
  value: string;
  choices: readonly string[];
  error: string | undefined;
  onChange: (value: string) => void;
  onRemove: () => void;
}) {
  const id = useId();
  return (
    <div class="field">
      <label class="name" for={id}>
        {title}
      </label>
      <div class="row">
        <input
          id={id}
          value={value}
          list={`${id}-choices`}
          placeholder="folder, file or name on the Hub"
          aria-invalid={error !== undefined}
          aria-describedby={`${id}-fault`}
          onInput={(event) => onChange(event.currentTarget.value)}
        />
        <button type="button" aria-label={`Remove ${title}`} onClick={onRemove}>
          ×
        </button>
      </div>
      <datalist id={`${id}-choices`}>
        {choices.map((one) => (
          <option key={one} value={one} />
        ))}
      </datalist>
      <div id={`${id}-fault`}>
        <Fault text={error} />
      </div>
    </div>
  );
}

export function NumberField({
  title,
  value,
  error,
  step,
  onChange,
}: {
  title: string;
  value: number;
  error: string | undefined;
  step: number;
  onChange: (value: number) => void;
}) {
  const id = useId();
  return (
    <div class="field">
      <label class="name" for={id}>
        {title}
      </label>
      <input
        id={id}
        type="number"
        step={step}
        value={value}
        aria-invalid={error !== undefined}
        aria-describedby={`${id}-fault`}
        onInput={({ currentTarget: { valueAsNumber } }) =>
          Number.isNaN(valueAsNumber) || onChange(valueAsNumber)
        }
      />
      <div id={`${id}-fault`}>
        <Fault text={error} />
      </div>
    </div>
  );
}
