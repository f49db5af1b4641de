/**
 * @file The `fetch` that uploads go through: it keeps the token to the Hub's own host, sends again what a server or a connection has failed to
 * take, and asks the Hub to verify each large file (git-lfs docs/api/basic-transfers.md; huggingface_hub `src/huggingface_hub/lfs.py`).
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { UserError } from '../base/errors.js';
import { reasonOf } from './blob.js';

/** The Hub could not be reached, or has refused. */
export class PublishError extends UserError {}

/** How often a request is sent before the upload ends with its error, and the wait before the second time, in ms. */
const [TRIES, WAIT_MS] = [4, 500];

interface Batch {
  objects: { oid: string; size: number; actions?: { upload?: Action; verify?: Action } }[];
}

interface Action {
  href: string;
}

interface Sent extends RequestInit {
  headers: Headers;
  signal: AbortSignal;
}

interface UploadFetchOptions {
  /** The Hub's address. */
  hub: string;
  signal?: AbortSignal | undefined;
  onMessage?: ((message: string) => void) | undefined;
}

/**
 * Returns a `fetch`. Requests to other hosts have no token, and one that the Hub redirects to another host is refused.
 * @throws PublishError at such a redirect; where the Hub does not have a file that was sent
 */
export function uploadFetch({ hub, signal, onMessage }: UploadFetchOptions): typeof fetch {
  const { origin } = new URL(hub);
  /** What verifies the object that is complete when this address has taken its content. */
  const verifications = new Map<string, { href: string; token: string | null; body: string }>();

  return async (input, init = {}) => {
    const url = new URL(input instanceof Request ? input.url : input);
    const headers = new Headers(init.headers);
    const token = headers.get('authorization');
    if (url.origin !== origin) headers.delete('authorization');
    const signals = [init.signal, signal].filter((one) => one != null);
    const request: Sent = { ...init, headers, signal: AbortSignal.any(signals) };
    const response = await sendAgain(url, request, onMessage);
    if (url.pathname.endsWith('/info/lfs/objects/batch') && response.ok) {
      const { objects } = (await response.clone().json()) as Batch;
      for (const { oid, size, actions: { upload, verify } = {} } of objects)
        if (upload !== undefined && verify !== undefined)
          verifications.set(upload.href, { href: verify.href, token, body: JSON.stringify({ oid, size }) });
    }
    const verification = verifications.get(String(input));
    if (verification === undefined || !response.ok) return response;
    verifications.delete(String(input));
    const verifyUrl = new URL(verification.href);
    const type = { accept: 'application/vnd.git-lfs+json', 'content-type': 'application/vnd.git-lfs+json' };
    const verifyHeaders = new Headers(type);
    if (verifyUrl.origin === origin && verification.token !== null)
      verifyHeaders.set('authorization', verification.token);
    const { signal: during } = request;
    const post = { method: 'POST', headers: verifyHeaders, body: verification.body, signal: during };
    const verified = await sendAgain(verifyUrl, post, onMessage);
    if (verified.ok) return response;
    throw new PublishError(
      `Expected ${origin} to have what was sent to ${url.origin} but it answered HTTP ${verified.status}; give the same command again`,
    );
  };
}

/** Sends a request again where the server fails, or where the connection breaks before an answer. */
async function sendAgain(
  url: URL,
  init: Sent,
  onMessage: UploadFetchOptions['onMessage'],
): Promise<Response> {
  // Whether a commit was made is not known where its answer is lost.
  const isRepeatable = !url.pathname.includes('/commit/');
  for (let tries = 1; ; tries++) {
    let why: string;
    try {
      const response = await fetch(url, { ...init, redirect: 'manual' });
      if (response.status >= 300 && response.status < 400) throw redirected(url, response);
      if (response.status < 500 || tries === TRIES) return response;
      why = `HTTP ${response.status}`;
      await response.body?.cancel();
    } catch (error) {
      if (error instanceof PublishError || init.signal.aborted || !isRepeatable || tries === TRIES)
        throw error;
      why = reasonOf(error);
    }
    onMessage?.(`${what(init)} could not be sent (${why}), and is sent again`);
    await sleep(WAIT_MS * 2 ** (tries - 1), undefined, { signal: init.signal });
  }
}

function redirected(url: URL, { status, headers }: Response): PublishError {
  const location = headers.get('location');
  const target = location === null ? 'no address' : new URL(location, url).origin;
  return new PublishError(
    `Expected ${url.origin} to take the upload but it answered HTTP ${status}, a redirect to ${target}; the token and the files do not go there. If it is the Hub's address, set HF_ENDPOINT to it`,
  );
}

function what({ method }: RequestInit): string {
  return method === 'PUT' ? 'A part' : 'A request';
}
