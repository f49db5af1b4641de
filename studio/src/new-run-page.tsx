/** @file Starts a training: models and data with their check, a preset, the usual options, and every other one behind a search. */
import { useMemo, useRef, useState } from 'preact/hooks';
import type { DryRunResult } from '../../src/studio/dry-run.js';
import type { OptionField, PresetField } from '../../src/studio/train-fields.js';
import { ApiError, api, json } from './api.js';
import { CheckReport, useDatasetCheck } from './dataset-check.js';
import { DryRunReport, faultsIn } from './dry-run.js';
import { Field } from './option-field.js';
import { ErrorNote, useLoaded, useTitle } from './parts.js';
import { Presets } from './presets.js';

/** Shown first, in this order. */
const sources = ['model', 'imageEncoder', 'dataset'];
const usual = [
  ...['kind', 'resolution', 'batchSize', 'maxSteps', 'learningRate'],
  ...['saveSteps', 'validationSplit', 'validationImages', 'validationSteps'],
];

export function NewRunPage() {
  useTitle('New run');
  const { value: fields, error: loadError } = useLoaded(
    () => json(api.options.$get()) as Promise<OptionField[]>,
    'fields',
  );
  const { value: presets = [] } = useLoaded(
    () => json(api.presets.$get()) as unknown as Promise<PresetField[]>,
    'presets',
  );
  const { value: about } = useLoaded(() => json(api.about.$get()), 'about');
  const found = useFound();
  const [name, setName] = useState('');
  const [preset, setPreset] = useState('');
  const [values, setValues] = useState<Record<string, string>>({});
  const [errors, setErrors] = useState<Readonly<Record<string, string>>>({});
  const [error, setError] = useState<unknown>();
  const [query, setQuery] = useState('');
  const [isSending, setSending] = useState(false);
  const [tried, setTried] = useState<DryRunResult>();
  const dryRunning = useRef<AbortController>();
  const used = useDatasetCheck();
  const [checked, setChecked] = useState('');
  const byName = useMemo(() => new Map((fields ?? []).map((one) => [one.name, one])), [fields]);
  if (fields === undefined)
    return loadError === undefined ? (
      <div class="loading" aria-busy="true" />
    ) : (
      <ErrorNote error={loadError} />
    );
  const sets = presets.find((one) => one.name === preset)?.sets ?? {};
  const has = (option: string): boolean => (values[option] ?? '') !== '';
  const body = {
    ...(preset === '' ? {} : { preset }),
    options: Object.fromEntries(
      fields.flatMap((one) => (has(one.name) ? [[one.name, parsedValue(one, values[one.name] ?? '')]] : [])),
    ),
  };
  const checkFaults = Object.fromEntries(
    [used.check?.samplesFault, used.check?.fault].flatMap((fault) =>
      fault?.option === undefined ? [] : [[fault.option, fault.error]],
    ),
  );
  const isChecked = checked === JSON.stringify(body);
  const faults = { ...(isChecked ? checkFaults : {}), ...errors };
  const field = (one: OptionField) => (
    <Field
      key={one.name}
      field={one}
      value={values[one.name]}
      preset={sets[one.name]}
      error={faults[one.name]}
      suggestions={found[one.name]}
      onChange={(value) => setValues((now) => ({ ...now, [one.name]: value }))}
    />
  );
  const named = (names: readonly string[]) => names.flatMap((one) => byName.get(one) ?? []).map(field);
  const others = fields.filter(
    (one) =>
      ![...sources, ...usual].includes(one.name) &&
      (values[one.name] !== undefined ||
        faults[one.name] !== undefined ||
        `${one.name} ${one.help}`.toLowerCase().includes(query.toLowerCase())),
  );
  const noting = async <T,>(work: () => Promise<T>): Promise<T | undefined> => {
    setErrors({});
    setError(undefined);
    try {
      return await work();
    } catch (fault) {
      if ((fault as Error).name === 'AbortError') return undefined;
      if (fault instanceof ApiError) setErrors(fault.fields);
      const hasFields = fault instanceof ApiError && Object.keys(fault.fields).length > 0;
      setError(hasFields ? new Error('Some options are wrong; see below.') : fault);
      scrollTo({ top: 0 });
      return undefined;
    }
  };
  const send = async <T,>(ask: (body: never) => Promise<T>): Promise<T | undefined> => {
    setSending(true);
    const answer = await noting(() => ask({ json: { name, ...body } } as never));
    setSending(false);
    return answer;
  };
  const start = async (event: Event): Promise<void> => {
    event.preventDefault();
    const added = (await send((run) => json(api.runs.$post(run)))) as { id: string } | undefined;
    if (added !== undefined) location.hash = `#/run/${encodeURIComponent(added.id)}`;
  };
  const dryRun = async (): Promise<void> => {
    setTried(undefined);
    const abort = new AbortController();
    dryRunning.current = abort;
    const ask = (run: never) => json(api['dry-run'].$post(run, { init: { signal: abort.signal } }));
    const result = (await send(ask)) as DryRunResult | undefined;
    setTried(result);
    if (result !== undefined) setErrors(faultsIn(result));
    dryRunning.current = undefined;
  };
  const checkDataset = (): Promise<void> => {
    setChecked(JSON.stringify(body));
    return noting(() => used.start(body));
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
      {isSending && (
        <div class="going" aria-busy="true">
          <p role="status">{dryRunning.current ? 'Loading the models and doing two steps' : 'Starting'}</p>
          {dryRunning.current && (
            <button type="button" onClick={() => dryRunning.current?.abort()}>
              Cancel the dry run
            </button>
          )}
        </div>
      )}
      {tried !== undefined && <DryRunReport tried={tried} />}
      <Presets presets={presets} chosen={preset} overridden={has} onChoose={setPreset} />
      {about !== undefined && (
        <p class="hint where">
          Datasets are in {about.datasets.join(', ')}
          {about.models.length > 0 && `; models in ${about.models.join(', ')}, or names on the Hub`}.
        </p>
      )}
      <div class="fields">
        <label class="field">
          <span class="name">
            name <em>required</em>
          </span>
          <input value={name} required onInput={(event) => setName(event.currentTarget.value)} />
          <span class="help">of its folder in the folder of runs</span>
        </label>
        {named(sources)}
      </div>
      <section class="check-section" aria-label="Dataset check">
        <div class="tools">
          <button type="button" disabled={used.check?.status === 'running'} onClick={checkDataset}>
            Check the dataset
          </button>
          <p class="hint">
            {used.check !== undefined && !isChecked
              ? 'The options have changed since this check.'
              : 'Reads every image once, and shows rows as the image encoder sees them with the options below.'}
          </p>
        </div>
        <CheckReport used={used} />
      </section>
      <div class="fields">{named(usual)}</div>
      <h2>Every other option</h2>
      <input
        type="search"
        placeholder="Find an option"
        aria-label="Find an option"
        value={query}
        onInput={(event) => setQuery(event.currentTarget.value)}
      />
      <div class="fields">{others.map(field)}</div>
    </form>
  );
}

/** Returns what the studio has found in its folders, by option. */
function useFound(): Readonly<Record<string, readonly string[]>> {
  const { value: datasets = [] } = useLoaded(() => json(api.datasets.$get()), 'found datasets');
  const { value: choices } = useLoaded(() => json(api.playground.choices.$get()), 'found models');
  return {
    dataset: datasets,
    ...(choices === undefined
      ? {}
      : {
          model: choices.models,
          imageEncoder: choices.imageEncoders,
          adapter: choices.adapters.map(({ path }) => path),
        }),
  };
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
