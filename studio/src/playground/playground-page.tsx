/** @file The playground: adapters and checkpoints tried with images of one's own, also while they train. */
import { useEffect, useState } from 'preact/hooks';
import type { GalleryImage } from '../../../src/studio/gallery.js';
import type { PlaygroundChoices } from '../../../src/studio/playground-choices.js';
import type { PlaygroundSettings } from '../../../src/studio/playground-restore.js';
import { ApiError, api, json } from '../api.js';
import { Empty, ErrorNote, useLoaded, useTitle } from '../parts.js';
import { AdapterCard } from './adapter-card.js';
import { emptyAdapter, type FormState, storedForm, storeForm } from './form.js';
import { requestOf, stateOf } from './form-request.js';
import { uploadFiles, useImageSize } from './gallery-image.js';
import { History } from './history.js';
import { InitialImage } from './initial-image.js';
import type { Size } from './mask-image.js';
import { ControlNets, Loras } from './model-additions.js';
import { RunningJob, Shown } from './result.js';
import { ScaleGrid } from './scale-grid.js';
import { SettingsFields } from './settings-fields.js';
import { isActive, useJobs } from './use-jobs.js';

/** A training that goes on has new checkpoints. */
const CHOICES_MS = 15_000;

export function PlaygroundPage() {
  useTitle('Playground');
  const [state, setState] = useState<FormState>(storedForm);
  const [errors, setErrors] = useState<Readonly<Record<string, string>>>({});
  const [error, setError] = useState<unknown>();
  const [note, setNote] = useState('');
  const [shown, setShown] = useState<string>();
  const [compared, setCompared] = useState<string>();
  const { value: choices, error: loadError } = useLoaded(
    () => json(api.playground.choices.$get()) as Promise<PlaygroundChoices>,
    'choices',
    CHOICES_MS,
  );
  const { jobs, reload } = useJobs();
  const finished = jobs.reduce((sum, { images }) => sum + images.length, 0);
  const { value: images, reload: reloadImages } = useLoaded(
    () => json(api.playground.images.$get()) as Promise<GalleryImage[]>,
    'images',
  );
  useEffect(() => {
    reloadImages();
    const newest = jobs.findLast((job) => job.images.length > 0)?.images.at(-1);
    if (newest !== undefined) setShown(newest);
  }, [finished]);
  useEffect(() => storeForm(state), [state]);

  const size = useOutputSize(state);
  const change = (part: Partial<FormState>): void => setState((now) => ({ ...now, ...part }));
  const addReferences = (names: readonly string[]): void =>
    setState((now) => ({
      ...now,
      adapters: (now.adapters.length === 0 ? [emptyAdapter] : now.adapters).map((adapter, i) =>
        i > 0
          ? adapter
          : { ...adapter, references: [...adapter.references, ...names.map((name) => ({ name }))] },
      ),
    }));
  const restore = async (name: string): Promise<void> => {
    const param = { param: { name } };
    const { form, missing } = (await json(
      api.playground.images[':name'].settings.$get(param),
    )) as PlaygroundSettings;
    if (form === null)
      throw new Error('The image has no settings of ip-adapter; drop it on the references to use it.');
    setState(stateOf(form));
    setNote(missing.length === 0 ? 'Its settings are restored.' : `Restored, without ${missing.join(', ')}.`);
  };
  const start = async (form: FormState): Promise<string | undefined> => {
    setErrors({});
    setError(undefined);
    setNote('');
    try {
      const body = await requestOf(form);
      const { id } = (await json(api.playground.jobs.$post({ json: body } as never))) as { id: string };
      reload();
      return id;
    } catch (fault) {
      if (fault instanceof ApiError && Object.keys(fault.fields).length > 0) {
        setErrors(fault.fields);
        setError(new Error('Some settings are wrong; see below.'));
      } else setError(fault);
      return undefined;
    }
  };
  useEffect(() => {
    const paste = (event: ClipboardEvent): void => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length > 0) uploadFiles(files).then(addReferences, setError);
    };
    const drop = (event: DragEvent): void => {
      event.preventDefault();
      const files = event.dataTransfer?.files ?? [];
      uploadFiles(files)
        .then(async ([name]) => {
          if (name !== undefined) await restore(name);
        })
        .catch(setError);
    };
    const over = (event: DragEvent): void => event.preventDefault();
    addEventListener('paste', paste);
    addEventListener('drop', drop);
    addEventListener('dragover', over);
    return () => {
      removeEventListener('paste', paste);
      removeEventListener('drop', drop);
      removeEventListener('dragover', over);
    };
  }, []);

  if (choices === undefined)
    return loadError === undefined ? (
      <div class="loading" aria-busy="true" />
    ) : (
      <ErrorNote error={loadError} />
    );
  const shownImage = images?.find(({ name }) => name === shown)?.name;
  const running = jobs.find(({ status }) => status === 'running');
  const waiting = jobs.filter(({ status }) => status === 'waiting');
  const failed = jobs.at(-1)?.status === 'failed' ? jobs.at(-1) : undefined;
  const output = {
    aspect: size === undefined ? 1 : size.width / size.height,
    backgrounds: [
      ...(state.initImage === undefined ? [] : [{ title: 'the initial image', image: state.initImage }]),
      ...(shownImage === undefined ? [] : [{ title: 'the last result', image: shownImage }]),
    ],
  };
  const cancel = (id: string): Promise<void> =>
    json(api.playground.jobs[':id'].$delete({ param: { id } })).then(reload, setError);
  return (
    <div class="playground">
      <form
        noValidate
        onSubmit={(event) => {
          event.preventDefault();
          void start(state);
        }}
      >
        <header class="head">
          <h1>Playground</h1>
          <button type="submit" class="primary">
            Generate
          </button>
        </header>
        <ErrorNote error={error} />
        <p role="status" class="hint">
          {note}
        </p>
        {state.adapters.map((adapter, i) => (
          <AdapterCard
            key={i}
            state={adapter}
            number={i + 1}
            choices={choices}
            output={output}
            errorOf={(name) => errors[`adapters[${i}].${name}`]}
            onChange={(one, model) =>
              change({ adapters: state.adapters.with(i, one), ...(model === undefined ? {} : { model }) })
            }
            onRemove={
              state.adapters.length > 1
                ? () => change({ adapters: state.adapters.toSpliced(i, 1) })
                : undefined
            }
            onError={setError}
          />
        ))}
        {state.adapters.length < 4 && (
          <button
            type="button"
            class="quiet"
            onClick={() => change({ adapters: [...state.adapters, emptyAdapter] })}
          >
            Add an adapter
          </button>
        )}
        <SettingsFields state={state} choices={choices} errors={errors} onChange={change}>
          <InitialImage state={state} size={size} errors={errors} onChange={change} onError={setError} />
          <ControlNets state={state} choices={choices} errors={errors} onChange={change} onError={setError} />
          <Loras state={state} choices={choices} errors={errors} onChange={change} />
        </SettingsFields>
      </form>
      <div class="results">
        {running !== undefined && <RunningJob job={running} onCancel={() => void cancel(running.id)} />}
        {waiting.length > 0 && (
          <p class="row hint">
            {waiting.length} {waiting.length === 1 ? 'job waits' : 'jobs wait'}
            <button type="button" onClick={() => void Promise.all(waiting.map(({ id }) => cancel(id)))}>
              Cancel them
            </button>
          </p>
        )}
        {failed !== undefined && <ErrorNote error={new Error(failed.error)} />}
        {jobs.at(-1)?.messages.map((text) => (
          <p key={text} class="hint">
            {text}
          </p>
        ))}
        {shownImage !== undefined ? (
          <Shown
            name={shownImage}
            compared={compared}
            onReference={() => addReferences([shownImage])}
            onInitial={() => change({ initImage: shownImage, maskImage: undefined })}
            onRestore={() => void restore(shownImage).catch(setError)}
            onCompare={setCompared}
            onRemove={() =>
              void json(api.playground.images[':name'].$delete({ param: { name: shownImage } })).then(() => {
                setShown(undefined);
                reloadImages();
              }, setError)
            }
          />
        ) : (
          !jobs.some(isActive) && (
            <Empty title="No image yet">
              <p>
                Choose a checkpoint, drop an image on it, and press <em>Generate</em>. A PNG of this package
                that is dropped on the page restores its settings.
              </p>
            </Empty>
          )
        )}
        <ScaleGrid
          adapter={state.adapters[0]?.adapter ?? ''}
          choices={choices}
          jobs={jobs}
          onStart={(adapter, scale) =>
            start({
              ...state,
              numImages: 1,
              adapters: state.adapters.map((one, i) => (i === 0 ? { ...one, adapter, scale } : one)),
            })
          }
          onShow={setShown}
        />
        <History images={images ?? []} shown={shown} onShow={setShown} />
      </div>
    </div>
  );
}

/** Returns the size of what is generated, as `generate` takes it; undefined where it is the model's own, or not known yet. */
function useOutputSize({ width, height, initImage, controls }: FormState): Size | undefined {
  const source = useImageSize(initImage ?? controls[0]?.image);
  const [givenWidth, givenHeight] = [Number(width) || undefined, Number(height) || undefined];
  if (givenWidth !== undefined && givenHeight !== undefined)
    return { width: givenWidth, height: givenHeight };
  return source && { width: givenWidth ?? source.width, height: givenHeight ?? source.height };
}
