/** @file Small parts that pages share. */
import type { ComponentChildren } from 'preact';
import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import type { RunStatus } from '../../src/studio/runs.js';
import { ApiError, fetchApi } from './api.js';

export function Status({ status }: { status: RunStatus }) {
  return <span class={`status ${status}`}>{status}</span>;
}

export function Progress({ step, total }: { step: number; total: number }) {
  const share = total === 0 ? 0 : Math.min(1, step / total);
  return (
    <div
      class="progress"
      role="progressbar"
      aria-label="Steps done"
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
export function useApiImage(path: string | undefined): { url: string | undefined; isMissing: boolean } {
  const [image, setImage] = useState<{ url?: string; isMissing: boolean }>({ isMissing: false });
  const last = useRef<string>();
  const keep = (url: string | undefined): void => {
    if (last.current !== undefined) URL.revokeObjectURL(last.current);
    last.current = url;
    setImage(url === undefined ? { isMissing: true } : { url, isMissing: false });
  };
  useEffect(() => {
    if (path === undefined) return;
    const abort = new AbortController();
    fetchApi(path, abort.signal)
      .then((response) => response.blob())
      .then((blob) => !abort.signal.aborted && keep(URL.createObjectURL(blob)))
      .catch(() => !abort.signal.aborted && keep(undefined));
    return () => abort.abort();
  }, [path]);
  useEffect(() => () => last.current && URL.revokeObjectURL(last.current), []);
  return { url: image.url, isMissing: image.isMissing };
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
  const { url, isMissing } = useApiImage(path);
  if (isMissing) return isQuiet ? null : <p class="empty">The image could not be loaded.</p>;
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

/** Loads a value now, on `reload`, and every `everyMs` while the page is shown. */
export function useLoaded<T>(load: () => Promise<T>, key: string, everyMs?: number): Loaded<T> {
  const [state, setState] = useState<{ value?: T; error?: unknown }>({});
  const latest = useRef(load);
  latest.current = load;
  const version = useRef(0);
  const reload = useCallback(() => {
    const own = ++version.current;
    latest.current().then(
      (value) => own === version.current && setState({ value }),
      (error) => {
        if (own !== version.current) return;
        setState(({ value }) => ({ ...(value === undefined ? {} : { value }), error }));
        if (error instanceof ApiError && error.status === 401) dispatchEvent(new Event('token-needed'));
      },
    );
  }, []);
  useEffect(() => {
    setState({});
    reload();
    if (everyMs === undefined) return;
    const timer = setInterval(() => !document.hidden && reload(), everyMs);
    return () => clearInterval(timer);
  }, [key]);
  return { value: state.value, error: state.error, reload };
}

export function useTitle(title: string): void {
  useEffect(() => {
    document.title = title === '' ? 'ip-adapter studio' : `${title} · ip-adapter studio`;
  }, [title]);
}
