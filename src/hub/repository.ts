/** @file A model's repository on the Hub, through the Hub's own client: which commit, which files, their bytes. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, ConfigError } from '../base/errors.js';
import { hubHome } from './cache.js';

export interface HubFile {
  /** In the repository. */
  path: string;
  /** Bytes. */
  size: number;
  /** What the cache names it by: the content's SHA-256 where it is large (LFS), else the hash that git gives it. */
  etag: string;
  isLfs: boolean;
}

type Client = typeof import('@huggingface/hub');

export class HubRepository {
  readonly #name: string;
  readonly #client: Client;
  readonly #access: { hubUrl: string; accessToken?: string; fetch: typeof fetch };

  private constructor(name: string, client: Client, signal: AbortSignal | undefined) {
    const accessToken = readToken();
    this.#name = name;
    this.#client = client;
    this.#access = {
      hubUrl: hubUrl(),
      fetch: (input, init) => fetch(input, { ...init, signal }),
      ...(accessToken !== undefined && { accessToken }),
    };
  }

  /** @param name 'org/name' @param signal ends every request, also those whose bytes are under way */
  static async open(name: string, signal: AbortSignal | undefined): Promise<HubRepository> {
    // Loaded now: who has all models needs no client.
    return new HubRepository(name, await import('@huggingface/hub'), signal);
  }

  /** The commit of the main branch. */
  async mainCommit(): Promise<string> {
    const params = {
      ...this.#access,
      name: this.#name,
      revision: 'main',
      additionalFields: ['sha' as const],
    };
    const { sha } = await this.#ask(() => this.#client.modelInfo(params));
    return hash(sha, 'the commit', this.#name);
  }

  /** All files of a commit, by their paths. */
  async files(commit: string): Promise<Map<string, HubFile>> {
    const params = { ...this.#access, repo: this.#name, revision: commit, recursive: true };
    const files = new Map<string, HubFile>();
    await this.#ask(async () => {
      for await (const { type, path, size, oid, lfs } of this.#client.listFiles(params)) {
        if (type !== 'file') continue;
        const etag = hash(lfs?.oid ?? oid, path, this.#name);
        files.set(path, { path, size, etag, isLfs: lfs !== undefined });
      }
    });
    return files;
  }

  /** The bytes of a file, from the given one on. */
  async read({ path, size }: HubFile, commit: string, from: number): Promise<AsyncIterable<Uint8Array>> {
    // In plain HTTP ranges, which mirrors of the Hub have as well, and which can be continued at any byte.
    const params = { ...this.#access, repo: this.#name, revision: commit, path, xet: false };
    const blob = await this.#ask(() => this.#client.downloadFile(params));
    if (blob === null)
      throw new CheckpointError(`Expected ${path} in ${this.#name} on the Hub but it is gone`);
    return blob.slice(from, size).stream() as AsyncIterable<Uint8Array> & ReadableStream;
  }

  /** @throws CheckpointError in place of what the Hub refuses; other errors may pass when asked again */
  async #ask<T>(request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (cause) {
      if (!(cause instanceof this.#client.HubApiError)) throw cause;
      const remedy = this.#remedies()[cause.statusCode];
      if (remedy === undefined) throw cause;
      throw new CheckpointError(
        `Expected the model ${this.#name} from ${this.#access.hubUrl} but it answers HTTP ${cause.statusCode}: ${remedy}`,
        { cause },
      );
    }
  }

  #remedies(): Record<number, string> {
    const { accessToken, hubUrl } = this.#access;
    const page = `${hubUrl}/${this.#name}`;
    const token = `${hubUrl}/settings/tokens`;
    return {
      // What is hidden and what is not there look the same without a token.
      401:
        accessToken === undefined
          ? `there is no such model, or it is private or gated; check the name, accept its licence at ${page} if it has one, and set HF_TOKEN to a token from ${token}`
          : `the token in HF_TOKEN or ${tokenFile()} is not valid here; make another at ${token}`,
      403: `it is gated, and the account of the token has no access; accept its licence at ${page}, and set HF_TOKEN to a token of that account that may read it`,
      404: 'there is no such model, or no longer the commit that the cache has of it; check the name, or remove the model from the cache',
    };
  }
}

export function hubUrl(): string {
  return (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
}

function tokenFile(): string {
  return process.env.HF_TOKEN_PATH || join(hubHome(), 'token');
}

/** @throws ConfigError where it is no token of the Hub's */
function readToken(): string | undefined {
  const file = tokenFile();
  const fromVariable = process.env.HF_TOKEN?.trim();
  const token = fromVariable || (existsSync(file) ? readFileSync(file, 'utf8').trim() : '');
  if (token === '') return undefined;
  // The client refuses any other. What was found is not shown: it may be another secret.
  if (!token.startsWith('hf_'))
    throw new ConfigError(
      `Expected a token of the Hub, hf_…, in ${fromVariable ? 'HF_TOKEN' : file} but it begins otherwise`,
    );
  return token;
}

// Hashes become names of files: an answer must not name others.
function hash(value: string | undefined, what: string, repo: string): string {
  if (value !== undefined && /^[0-9a-f]{40,64}$/.test(value)) return value;
  throw new CheckpointError(`Expected a hash for ${what} of ${repo} from the Hub but received ${value}`);
}
