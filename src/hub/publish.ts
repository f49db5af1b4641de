/**
 * @file Publishes files as a model on the Hub, through the Hub's client: creates the repository, uploads what the Hub does not
 * have yet, then commits all files at once. Large files go in parts; a file that was complete in an earlier try is not sent again.
 */
import { pathToFileURL } from 'node:url';
import { ConfigError } from '../base/errors.js';
import { reasonOf } from './blob.js';
import { hubUrl, readToken, tokenPlaces } from './repository.js';
import { PublishError, uploadFetch } from './upload-fetch.js';

export interface Published {
  /** The path in the repository. */
  path: string;
  /** The content, or the path of the file that has it. */
  content: Uint8Array | { file: string };
}

export interface PublishHooks {
  onMessage?: ((message: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * @param repo 'org/name'
 * @returns the address of the model's page
 * @throws ConfigError without a token; PublishError where the Hub refuses or cannot be reached
 */
export async function publish(
  repo: string,
  files: readonly Published[],
  { isPrivate, title }: { isPrivate: boolean; title: string },
  { onMessage, signal }: PublishHooks = {},
): Promise<string> {
  const accessToken = readToken();
  if (accessToken === undefined)
    throw new ConfigError(
      `publish needs a token of the Hub with write access: create one at ${hubUrl()}/settings/tokens, and set HF_TOKEN to it, or save it with hf auth login`,
    );
  const client = await import('@huggingface/hub');
  const fetch = uploadFetch({ hub: hubUrl(), signal, onMessage });
  const access = { hubUrl: hubUrl(), accessToken, repo, fetch };
  const request = (work: () => Promise<void>): Promise<void> =>
    orExplain(work, client.HubApiError, repo, signal);

  await request(async () => {
    try {
      await client.createRepo({ ...access, visibility: isPrivate ? 'private' : 'public' });
      onMessage?.(`Created ${repo}`);
    } catch (error) {
      // It exists: the commit tells whether this account may write to it.
      if (!(error instanceof client.HubApiError) || error.statusCode !== 409) throw error;
    }
  });
  await request(async () => {
    const progress = client.commitIter({
      ...access,
      useXet: false,
      title,
      operations: files.map(({ path, content }) => ({
        operation: 'addOrUpdate' as const,
        path,
        content:
          content instanceof Uint8Array ? new Blob([Uint8Array.from(content)]) : pathToFileURL(content.file),
      })),
      ...(signal && { abortSignal: signal }),
    });
    const done = new Set<string>();
    for await (const event of progress) {
      if (event.event !== 'fileProgress' || event.state !== 'uploading' || event.progress < 1) continue;
      if (done.has(event.path)) continue;
      done.add(event.path);
      onMessage?.(`Uploaded ${event.path}`);
    }
  });
  return `${hubUrl()}/${repo}`;
}

type ApiError = typeof import('@huggingface/hub')['HubApiError'];

async function orExplain(
  work: () => Promise<void>,
  HubApiError: ApiError,
  repo: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await work();
  } catch (cause) {
    signal?.throwIfAborted();
    if (cause instanceof PublishError) throw cause;
    if (!(cause instanceof HubApiError))
      throw new PublishError(
        `${hubUrl()} cannot be reached: ${reasonOf(cause)}. Give the same command again: files that are complete there are not sent again`,
        { cause },
      );
    const [org] = repo.split('/');
    const remedies: Record<number, string> = {
      401: `the token in ${tokenPlaces()} is not valid; create another with write access at ${hubUrl()}/settings/tokens`,
      403: `the token in ${tokenPlaces()} may not write to ${repo}; take one with write access, of an account that is a member of ${org}`,
      404: `there is no account or organization ${org}, or the token may not see it; check the name`,
      409: 'the repository was changed at the same time; give the same command again',
    };
    const remedy = remedies[cause.statusCode] ?? 'give the same command again later';
    throw new PublishError(
      `Expected ${hubUrl()} to take the model ${repo} but it answered HTTP ${cause.statusCode}: ${remedy}`,
      { cause },
    );
  }
}
