/** @file Small parts that pages share. */
import type { ComponentChildren } from 'preact';
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import type { RunStatus } from '../../src/studio/runs.js';
import { ApiError, fetchApi } from './api.js';

export function Status({ status }: { status: RunStatus }) {
  return <span class={`status ${status}`}>{status}</span>;
}

export function Progress({
  step,
  total,
  label = 'Steps done',
}: {
  step: number;
  total: number;
  label?: string;
}) {
  const share = total === 0 ? 0 : Math.min(1, step / total);
  return (
    <div
      class="progress"
      role="progressbar"
      aria-label={label}
      aria-valuemin={0}
      aria-valuemax={Math.max(1, total)}
      aria-valuenow={step}
    >
      <i style={{ width: `${100 * share}%` }} />
    </div>
  );
}

/**
 * Fetches an image below /api with the token, and keeps it as a blob. While the next one is fetched, the last one stays.
 * @param path undefined: none yet
 */
export function useApiImage(path: string | undefined): { url: string | undefined; error: unknown } {
  const [image, setImage] = useState<{ url?: string; error?: unknown }>({});
  const last = useRef<string>();
  const keep = (url: string | undefined, error?: unknown): void => {
    if (last.current !== undefined) URL.revokeObjectURL(last.current);
    last.current = url;
    setImage(url === undefined ? { error } : { url });
  };
  useEffect(() => {
    if (path === undefined) return;
    const abort = new AbortController();
    fetchApi(path, abort.signal)
      .then((response) => response.blob())
      .then((blob) => !abort.signal.aborted && keep(URL.createObjectURL(blob)))
      .catch((error) => !abort.signal.aborted && keep(undefined, error));
    return () => abort.abort();
  }, [path]);
  useEffect(() => () => last.current && URL.revokeObjectURL(last.current), []);
  return { url: image.url, error: image.error };
}

/** @param isQuiet whether nothing is shown where there is none */
export function ApiImage({
  path,
  alt,
  class: className,
  isQuiet = false,
}: {
  path: string;
  alt: string;
  class?: string;
  isQuiet?: boolean;
}) {
  const { url, error } = useApiImage(path);
  if (error !== undefined) return isQuiet ? null : <p class="no-image">{(error as Error).message}</p>;
  return url === undefined ? (
    <div class={`placeholder ${className ?? ''}`} />
  ) : (
    <img src={url} alt={alt} class={className} />
  );
}

/** @param isPage whether nothing else is on the page */
export function Empty({
  title,
  isPage = false,
  children,
}: {
  title: string;
  isPage?: boolean;
  children?: ComponentChildren;
}) {
  return (
    <section class="empty">
      {isPage ? <h1>{title}</h1> : <h2>{title}</h2>}
      {children}
    </section>
  );
}

export function ErrorNote({ error }: { error: unknown }) {
  if (error === undefined || error === null) return null;
  return (
    <p class="error" role="alert">
      {error instanceof TypeError
        ? 'The studio does not answer. Is it still running?'
        : (error as Error).message}
    </p>
  );
}

export interface Loaded<T> {
  value: T | undefined;
  error: unknown;
  reload(): void;
}

/** Loads a value now, on `reload`, and every `everyMs` while the page is shown. Its signal is aborted with another key. */
export function useLoaded<T>(
  load: (signal: AbortSignal) => Promise<T>,
  key: string,
  everyMs?: number,
): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: unknown }>({});
  const latest = useRef(load);
  latest.current = load;
  const version = useRef(0);
  const abort = useRef(new AbortController());
  const reload = useCallback(() => {
    const own = ++version.current;
    const { signal } = abort.current;
    latest.current(signal).then(
      (value) => own === version.current && setState({ value }),
      (error) => {
        if (own !== version.current || signal.aborted) return;
        setState(({ value }) => ({ ...(value === undefined ? {} : { value }), error }));
        if (error instanceof ApiError && error.status === 401) dispatchEvent(new Event('token-needed'));
      },
    );
  }, []);
  useEffect(() => {
    setState({});
    abort.current = new AbortController();
    reload();
    const timer =
      everyMs === undefined ? undefined : setInterval(() => !document.hidden && reload(), everyMs);
    return () => {
      clearInterval(timer);
      abort.current.abort();
    };
  }, [key]);
  return { value: state.value, error: state.error, reload };
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title === '' ? 'ip-adapter studio' : `${title} · ip-adapter studio`;
  }, [title]);
}
