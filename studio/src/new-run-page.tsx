/** @file Starts a training: the usual options, and every other one behind a search. */
import { useMemo, useState } from 'preact/hooks';
import type { DryRunResult } from '../../src/studio/dry-run.js';
import type { OptionField } from '../../src/studio/train-fields.js';
import { ApiError, api, json } from './api.js';
import { ErrorNote, useLoaded, useTitle } from './parts.js';

/** Shown first, in this order. */
const usual = [
  ...['model', 'imageEncoder', 'dataset', 'kind', 'resolution', 'batchSize', 'maxSteps', 'learningRate'],
  ...['saveSteps', 'validationSplit', 'validationImages', 'validationSteps'],
];

export function NewRunPage() {
  useTitle('New run');
  const { value: fields, error: loadError } = useLoaded(() => json(api.options.$get()), 'fields');
  const { value: about } = useLoaded(() => json(api.about.$get()), 'about');
  const [name, setName] = useState('');
  const [values, setValues] = useState<Record<string, string>>({});
  const [errors, setErrors] = useState<Readonly<Record<string, string>>>({});
  const [error, setError] = useState<unknown>();
  const [query, setQuery] = useState('');
  const [isSending, setSending] = useState(false);
  const [tried, setTried] = useState<DryRunResult>();
  const [first, rest] = useMemo(() => {
    const all = (fields ?? []) as OptionField[];
    return [
      usual.flatMap((one) => all.find((field) => field.name === one) ?? []),
      all.filter((field) => !usual.includes(field.name)),
    ];
  }, [fields]);
  if (fields === undefined)
    return loadError === undefined ? (
      <div class="loading" aria-busy="true" />
    ) : (
      <ErrorNote error={loadError} />
    );
  const found = rest.filter(
    (field) =>
      values[field.name] !== undefined ||
      errors[field.name] !== undefined ||
      `${field.name} ${field.help}`.toLowerCase().includes(query.toLowerCase()),
  );
  const field = (one: OptionField) => (
    <Field
      key={one.name}
      field={one}
      value={values[one.name]}
      error={errors[one.name]}
      onChange={(value) => setValues((now) => ({ ...now, [one.name]: value }))}
    />
  );
  const send = async <T,>(ask: (body: never) => Promise<T>): Promise<T | undefined> => {
    setErrors({});
    setError(undefined);
    setSending(true);
    try {
      const options = Object.fromEntries(
        (fields as OptionField[]).flatMap((one) => {
          const value = values[one.name];
          return value === undefined || value === '' ? [] : [[one.name, parsedValue(one, value)]];
        }),
      );
      return await ask({ json: { name, options } } as never);
    } catch (fault) {
      if (fault instanceof ApiError) setErrors(fault.fields);
      const hasFields = fault instanceof ApiError && Object.keys(fault.fields).length > 0;
      setError(hasFields ? new Error('Some options are wrong; see below.') : fault);
      scrollTo({ top: 0 });
      return undefined;
    } finally {
      setSending(false);
    }
  };
  const start = async (event: Event): Promise<void> => {
    event.preventDefault();
    const added = (await send((body) => json(api.runs.$post(body)))) as { id: string } | undefined;
    if (added !== undefined) location.hash = `#/run/${encodeURIComponent(added.id)}`;
  };
  const dryRun = async (): Promise<void> => {
    setTried(undefined);
    setTried((await send((body) => json(api['dry-run'].$post(body)))) as DryRunResult | undefined);
  };
  return (
    <form class="new-run" onSubmit={start} noValidate>
      <header class="head">
        <div>
          <p class="crumb">
            <a href="#/">Runs</a>
          </p>
          <h1>New run</h1>
        </div>
        <button type="button" disabled={isSending} onClick={dryRun}>
          Dry run
        </button>
        <button type="submit" class="primary" disabled={isSending}>
          Start training
        </button>
      </header>
      <ErrorNote error={error} />
      {isSending && <div class="loading" aria-busy="true" />}
      {tried !== undefined && (
        <section class="dry-run" aria-label="Dry run">
          <h2>{tried.isPossible ? 'What the run takes' : 'The run is not possible so'}</h2>
          {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a text that scrolls must be reached by keyboard */}
          <pre class="log" tabIndex={0}>
            {tried.text}
          </pre>
        </section>
      )}
      {about !== undefined && (
        <p class="hint">
          Datasets are in {about.datasets.join(', ')}
          {about.models.length > 0 && `; models in ${about.models.join(', ')}, or names on the Hub`}.
        </p>
      )}
      <div class="fields">
        <label class="field">
          <span class="name">name</span>
          <input value={name} required onInput={(event) => setName(event.currentTarget.value)} />
          <span class="help">of its folder in the folder of runs</span>
        </label>
        {first.map(field)}
      </div>
      <h2>Every other option</h2>
      <input
        type="search"
        placeholder="Find an option"
        aria-label="Find an option"
        value={query}
        onInput={(event) => setQuery(event.currentTarget.value)}
      />
      <div class="fields">{found.map(field)}</div>
    </form>
  );
}

function Field({
  field: { name, kind, choices = [], fallback, isRequired, help },
  value,
  error,
  onChange,
}: {
  field: OptionField;
  value: string | undefined;
  error: string | undefined;
  onChange: (value: string) => void;
}) {
  const common = {
    id: `option-${name}`,
    value: value ?? '',
    'aria-invalid': error !== undefined,
    'aria-describedby': `help-${name}`,
  };
  const placeholder = fallback === undefined || typeof fallback === 'object' ? '' : String(fallback);
  const input = (event: { currentTarget: { value: string } }): void => onChange(event.currentTarget.value);
  const options = kind === 'switch' ? ['true', 'false'] : choices;
  return (
    <div class="field">
      <label class="name" for={`option-${name}`}>
        {name}
        {isRequired && <em> required</em>}
      </label>
      {kind === 'choice' || kind === 'switch' ? (
        <select {...common} onChange={input}>
          <option value="">{placeholder === '' ? 'default' : `${placeholder} (default)`}</option>
          {options.map((one) => (
            <option key={one}>{one}</option>
          ))}
        </select>
      ) : kind === 'list' ? (
        <textarea {...common} rows={2} placeholder="one a line" onInput={input} />
      ) : (
        <input
          {...common}
          inputMode={kind === 'number' ? 'decimal' : 'text'}
          placeholder={placeholder}
          onInput={input}
        />
      )}
      <span class="help" id={`help-${name}`}>
        {error !== undefined && <strong>{error}</strong>} {help}
      </span>
    </div>
  );
}

/** What is not a number is sent as it is: the answer says what is wrong at its field. */
function parsedValue({ kind }: OptionField, text: string): unknown {
  if (kind === 'list')
    return text
      .split('\n')
      .map((line) => line.trim())
      .filter((line) => line !== '');
  if (kind === 'switch') return text === 'true';
  if (kind === 'number') return Number.isFinite(Number(text)) ? Number(text) : text;
  return text;
}
