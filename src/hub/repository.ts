/** @file Accesses a model's repository on the Hub through the Hub's client: its commit, its list of files, their bytes. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, ConfigError } from '../base/errors.js';
import { hubHome } from './cache.js';

export interface HubFile {
  /** The path in the repository. */
  path: string;
  /** The size in bytes. */
  size: number;
  /** The cache's name for the content: its SHA-256 for large files (LFS), otherwise its git hash. */
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

  /** @param name 'org/name' @param signal aborts every request and download */
  static async open(name: string, signal: AbortSignal | undefined): Promise<HubRepository> {
    // Imported here, because the client is not needed where all models are cached.
    return new HubRepository(name, await import('@huggingface/hub'), signal);
  }

  /** Returns the commit of the main branch. */
  async mainCommit(): Promise<string> {
    const params = {
      ...this.#access,
      name: this.#name,
      revision: 'main',
      additionalFields: ['sha' as const],
    };
    const { sha } = await this.#request(() => this.#client.modelInfo(params));
    return hash(sha, 'the commit', this.#name);
  }

  /** Returns all files of a commit, by their paths. */
  async files(commit: string): Promise<Map<string, HubFile>> {
    const params = { ...this.#access, repo: this.#name, revision: commit, recursive: true };
    const files = new Map<string, HubFile>();
    await this.#request(async () => {
      for await (const { type, path, size, oid, lfs } of this.#client.listFiles(params)) {
        if (type !== 'file') continue;
        const etag = hash(lfs?.oid ?? oid, path, this.#name);
        files.set(path, { path, size, etag, isLfs: lfs !== undefined });
      }
    });
    return files;
  }

  /** Returns the bytes of a file from offset `from` on. */
  async read({ path, size }: HubFile, commit: string, from: number): Promise<AsyncIterable<Uint8Array>> {
    // HTTP ranges work with mirrors of the Hub too, and can resume at any byte.
    const params = { ...this.#access, repo: this.#name, revision: commit, path, xet: false };
    const blob = await this.#request(() => this.#client.downloadFile(params));
    if (blob === null)
      throw new CheckpointError(`Expected ${path} in ${this.#name} on the Hub but it no longer exists`);
    return blob.slice(from, size).stream() as AsyncIterable<Uint8Array> & ReadableStream;
  }

  /** @throws CheckpointError where the Hub refuses; other errors may be temporary */
  async #request<T>(request: () => Promise<T>): Promise<T> {
    try {
      return await request();
    } catch (cause) {
      if (!(cause instanceof this.#client.HubApiError)) throw cause;
      const remedy = this.#remedies()[cause.statusCode];
      if (remedy === undefined) throw cause;
      throw new CheckpointError(
        `Expected the model ${this.#name} from ${this.#access.hubUrl} but it answered HTTP ${cause.statusCode}: ${remedy}`,
        { cause },
      );
    }
  }

  #remedies(): Record<number, string> {
    const { accessToken, hubUrl } = this.#access;
    const page = `${hubUrl}/${this.#name}`;
    const token = `${hubUrl}/settings/tokens`;
    return {
      // Without a token, a private model and a missing one give the same answer.
      401:
        accessToken === undefined
          ? `there is no such model, or it is private or gated; check the name, accept its licence at ${page} if it has one, and set HF_TOKEN to a token from ${token}`
          : `the token in HF_TOKEN or ${tokenFile()} is not valid; create another at ${token}`,
      403: `it is gated, and the token's account has no access; accept its licence at ${page}, and set HF_TOKEN to a token of that account with read access`,
      404: 'there is no such model, or the cached commit no longer exists; check the name, or delete the model from the cache',
    };
  }
}

export function hubUrl(): string {
  return (process.env.HF_ENDPOINT || 'https://huggingface.co').replace(/\/+$/, '');
}

function tokenFile(): string {
  return process.env.HF_TOKEN_PATH || join(hubHome(), 'token');
}

/** Returns where the token is read, for messages. */
export function tokenPlaces(): string {
  return `HF_TOKEN or ${tokenFile()}`;
}

/** Reads the user's token, if there is one. @throws ConfigError where it is not a token of the Hub */
export function readToken(): string | undefined {
  const file = tokenFile();
  const fromVariable = process.env.HF_TOKEN?.trim();
  const token = fromVariable || (existsSync(file) ? readFileSync(file, 'utf8').trim() : '');
  if (token === '') return undefined;
  // The client refuses other tokens. The value is not shown, because it may be another secret.
  if (!token.startsWith('hf_'))
    throw new ConfigError(
      `Expected a token of the Hub, which starts with hf_, in ${fromVariable ? 'HF_TOKEN' : file} but it starts differently`,
    );
  return token;
}

// Hashes become file names, so an invalid one could refer to another path.
function hash(value: string | undefined, what: string, repo: string): string {
  if (value !== undefined && /^[0-9a-f]{40,64}$/.test(value)) return value;
  throw new CheckpointError(`Expected a hash for ${what} of ${repo} from the Hub but received ${value}`);
}
