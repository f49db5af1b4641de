/** @file A file behind an HTTP address: its size and version, and its bytes from any place on. */
import { setTimeout as pause } from 'node:timers/promises';
import { DatasetError, UserError } from '../base/errors.js';
import { reasonOf } from './blob.js';
import { hubUrl, readToken } from './repository.js';

/** What a server says of a file. */
export interface HttpFile {
  readonly url: string;
  /** In bytes. */
  readonly size: number;
  /** Changes with the content: the ETag, else the time of the last change; '' where the server says neither. */
  readonly version: string;
}

/** Times out a server that sends nothing for this long; the request is then made again. */
const SILENCE_MS = 60_000;

export interface ProbeOptions {
  signal?: AbortSignal | undefined;
  onMessage?: ((message: string) => void) | undefined;
  /** Pause before the second try; doubled after each. */
  pauseMs?: number | undefined;
}

/** Tries after the first; with the pauses they take about a minute. */
const RETRIES = 6;

/**
 * Asks a server for the size and version of a file, again after failures that may pass.
 * @throws DatasetError where the server refuses or cannot be reached; the signal's reason
 */
export async function probe(
  url: string,
  { signal, onMessage, pauseMs = 1000 }: ProbeOptions,
): Promise<HttpFile> {
  for (let retry = 0; ; retry++) {
    try {
      return await probeOnce(url, signal);
    } catch (cause) {
      signal?.throwIfAborted();
      if (cause instanceof UserError) throw cause;
      const reason = reasonOf(cause);
      // No host has this name: another try says the same, and nothing has been trained yet.
      const isUnknownHost =
        ((cause as Error).cause as NodeJS.ErrnoException | undefined)?.code === 'ENOTFOUND';
      if (retry === RETRIES || isUnknownHost)
        throw new DatasetError(
          `Expected ${url} but its server cannot be reached: ${reason}; check the address and the connection.`,
          { cause },
        );
      const ms = pauseMs * 2 ** retry;
      onMessage?.(`No answer for ${url}: ${reason}; trying again in ${Math.ceil(ms / 1000)} s`);
      await pause(ms, undefined, { signal });
    }
  }
}

/** @throws DatasetError where the server refuses; other errors may be temporary, and the signal's reason */
async function probeOnce(url: string, signal: AbortSignal | undefined): Promise<HttpFile> {
  let response = await request(url, { method: 'HEAD' }, signal);
  if ([400, 405, 501].includes(response.status)) {
    // A server without HEAD, or an address that is signed for GET: one byte says the same.
    response = await request(url, { headers: { range: 'bytes=0-0' } }, signal);
    await response.body?.cancel();
  }
  assertOk(url, response);
  const total = /\/(\d+)$/.exec(response.headers.get('content-range') ?? '')?.[1];
  const size = Number(total ?? response.headers.get('content-length') ?? Number.NaN);
  if (!Number.isSafeInteger(size) || response.headers.has('content-encoding'))
    throw new DatasetError(
      `Expected the length of ${url} but the server does not say it; download the file, and give its path.`,
    );
  return { url, size, version: versionOf(response) };
}

/**
 * Requests the bytes of a file from `from` on. A server that cannot send a part sends the whole file, of which the first
 * bytes are skipped.
 * @throws DatasetError where the file is another one than `file`, or the server refuses
 */
export async function* readFrom(
  file: HttpFile,
  from: number,
  signal: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void, void> {
  const silence = new AbortController();
  const either = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
  const timer = setTimeout(
    () => silence.abort(new Error('the server sent nothing for a minute')),
    SILENCE_MS,
  );
  try {
    const response = await request(file.url, { headers: { range: `bytes=${from}-` } }, either);
    if (response.status === 416) throw changed(file, 'is shorter');
    assertOk(file.url, response);
    const isPart = response.status === 206;
    const [, start, total] =
      /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get('content-range') ?? '') ?? [];
    const size = Number(isPart ? total : (response.headers.get('content-length') ?? file.size));
    if (size !== file.size) throw changed(file, `has ${size} bytes, not ${file.size}`);
    const version = versionOf(response);
    if (version !== file.version)
      throw changed(file, `is ${version || 'without version'}, not ${file.version}`);
    let skip = isPart ? from - Number(start) : from;
    if (skip < 0) throw new Error(`the server began at byte ${start} instead of ${from}`);
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      timer.refresh();
      const rest = chunk.subarray(Math.min(skip, chunk.length));
      skip -= chunk.length - rest.length;
      if (rest.length > 0) yield rest;
    }
  } finally {
    clearTimeout(timer);
  }
}

function changed({ url }: HttpFile, how: string): DatasetError {
  return new DatasetError(
    `Expected ${url} as it was at the start of the run but it has changed: it ${how}. Restore the file, or start a new run.`,
  );
}

/** An ETag with W/ does not promise equal bytes, but no server changes it for nothing. */
function versionOf({ headers }: Response): string {
  return (headers.get('etag') ?? headers.get('last-modified') ?? '').replace(/^W\//, '');
}

async function request(
  url: string,
  init: RequestInit & { headers?: Record<string, string> },
  signal: AbortSignal | undefined,
): Promise<Response> {
  const token = url.startsWith(`${hubUrl()}/`) ? readToken() : undefined;
  // fetch sends the token to the first host only, not to where it redirects. A coding would change lengths and offsets.
  const headers = {
    'accept-encoding': 'identity',
    ...init.headers,
    ...(token !== undefined && { authorization: `Bearer ${token}` }),
  };
  return fetch(url, { ...init, headers, ...(signal !== undefined && { signal }) });
}

/** @throws DatasetError for what another try does not mend; Error for what it may */
function assertOk(url: string, { status }: Response): void {
  if (status === 200 || status === 206) return;
  const isHub = url.startsWith(`${hubUrl()}/`);
  const remedy: Record<number, string> = {
    401: isHub
      ? 'it is private or gated, or does not exist; set HF_TOKEN to a token with read access'
      : 'it asks for a password; download the file, and give its path',
    403: isHub
      ? "it is gated, and the token's account has no access; accept its licence on the Hub"
      : 'access is forbidden; the address may have expired',
    404: 'there is no such file; check the address, and the range in braces',
    410: 'the file was removed',
  };
  if (status in remedy)
    throw new DatasetError(`Expected ${url} but the server answered HTTP ${status}: ${remedy[status]}.`);
  throw new Error(`HTTP ${status}`);
}
