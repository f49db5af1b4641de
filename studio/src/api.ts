/** @file The typed client of the studio's API, with the token that came in the page's address. */
import { type ClientResponse, hc } from 'hono/client';
import type { StudioApi } from '../../src/studio/app.js';

const tokenKey = 'ip-adapter-studio-token';
const apiBase = new URL('api', document.baseURI.replace(/#.*$/, '')).href;

/** Keeps the token of an address `…/#token=…`, and takes it out of the address, which is shown and kept in the history. */
export function takeToken(): void {
  const [, token] = /^#token=([\w-]+)$/.exec(location.hash) ?? [];
  if (token === undefined) return;
  localStorage.setItem(tokenKey, token);
  history.replaceState(null, '', '#/');
}

export function setToken(text: string): void {
  localStorage.setItem(tokenKey, /token=([\w-]+)/.exec(text)?.[1] ?? text.trim());
}

function headers(): Record<string, string> {
  const token = localStorage.getItem(tokenKey);
  return token === null ? {} : { Authorization: `Bearer ${token}` };
}

export const api = hc<StudioApi>(apiBase, { headers });

export class ApiError extends Error {
  constructor(
    readonly status: number,
    message: string,
    /** By option. */
    readonly fields: Readonly<Record<string, string>> = {},
  ) {
    super(message);
  }
}

async function check(response: { ok: boolean; status: number; json(): Promise<unknown> }): Promise<void> {
  if (response.ok) return;
  const { error, errors } = (await response.json().catch(() => ({}))) as {
    error?: string;
    errors?: Record<string, string>;
  };
  throw new ApiError(response.status, error ?? `The studio answered with status ${response.status}`, errors);
}

type Json<R> =
  R extends ClientResponse<infer T, infer S, string>
    ? S extends 401 | 404 | 409 | 413 | 422 | 503
      ? never
      : T
    : never;

/** Returns the JSON of an answer. @throws ApiError where it is an error, TypeError where the studio does not answer */
export async function json<R extends ClientResponse<unknown>>(answer: Promise<R>): Promise<Json<R>> {
  const response = await answer;
  await check(response);
  return (await response.json()) as Json<R>;
}

/** Fetches bytes below /api, with the token. */
export async function fetchApi(path: string, signal?: AbortSignal): Promise<Response> {
  const response = await fetch(`${apiBase}/${path}`, { headers: headers(), signal: signal ?? null });
  await check(response);
  return response;
}

/** Gives an image to the playground. @returns its name there */
export async function uploadImage(image: Blob): Promise<string> {
  const response = await fetch(`${apiBase}/playground/uploads`, {
    method: 'POST',
    headers: headers(),
    body: image,
  });
  await check(response);
  return ((await response.json()) as { name: string }).name;
}

export function runPath(id: string, rest: string): string {
  return `runs/${encodeURIComponent(id)}/${rest}`;
}

export interface ServerEvent {
  event: string;
  data: string;
}

/** Yields server-sent events. EventSource would need the token in its address, which ends up in logs. */
export async function* serverEvents(path: string, signal: AbortSignal): AsyncGenerator<ServerEvent> {
  const { body } = await fetchApi(path, signal);
  const reader = (body as ReadableStream<Uint8Array>)
    .pipeThrough(new TextDecoderStream() as never)
    .getReader();
  let rest = '';
  for (;;) {
    const { done, value } = (await reader.read()) as ReadableStreamReadResult<string>;
    if (done) return;
    const messages = (rest + value).split('\n\n');
    rest = messages.pop() as string;
    for (const message of messages) {
      const fields = message.split('\n').map((line) => /^(\w+): ?(.*)$/.exec(line)?.slice(1) ?? []);
      const of = (name: string): string[] =>
        fields.flatMap(([key, value = '']) => (key === name ? [value] : []));
      yield { event: of('event')[0] ?? 'message', data: of('data').join('\n') };
    }
  }
}

/** Downloads a file, which a link could not: it has no token. */
export async function download(path: string, fallbackName = 'download'): Promise<void> {
  const response = await fetchApi(path);
  const name = /filename="([^"]+)"/.exec(response.headers.get('content-disposition') ?? '')?.[1];
  const link = document.createElement('a');
  link.href = URL.createObjectURL(await response.blob());
  link.download = name ?? fallbackName;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
