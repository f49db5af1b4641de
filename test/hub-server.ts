/**
 * @file A local server with the Hub's API: the commit of the main branch, the list of files, and their bytes, whole or in
 * ranges. As on the Hub, large files (LFS) are on another host, to which requests are redirected.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

const commit = createHash('sha1').update('the only commit').digest('hex');

interface Stored {
  bytes: Buffer;
  /** The cache's name for the content. */
  etag: string;
  isLfs: boolean;
}

/** A request for the bytes of a file from `start` on, of which `sent` were sent. */
export interface Transfer {
  path: string;
  start: number;
  sent: number;
}

export class HubServer {
  static readonly commit = commit;
  readonly #server = createServer((request, response) => this.#answer(request, response));
  readonly #repos = new Map<string, Map<string, Stored>>();
  /** Every request: method and path. */
  readonly requests: string[] = [];
  /** The requests for files' bytes, without those that only ask for the size. */
  readonly transfers: Transfer[] = [];
  /** The token that a repository's files require. */
  readonly gates = new Map<string, string>();
  /** The numbers of bytes after which the next connections are cut. */
  readonly cuts: number[] = [];
  /** Replaces a file's bytes in responses. */
  corrupt: (path: string, bytes: Buffer) => Buffer = (_, bytes) => bytes;
  /** The size that the list reports for every file, instead of its own. */
  claimedSize: number | undefined;
  /** Bytes per second; a low rate gives tests time to interrupt. */
  rate = Number.POSITIVE_INFINITY;

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${this.#port}`;
  }

  get #port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  /** Adds a folder's files, or one file, to a repository. */
  add(repo: string, path: string, source: string | Buffer): void {
    if (typeof source === 'string') {
      for (const entry of readdirSync(source, { withFileTypes: true })) {
        const from = join(source, entry.name);
        const to = path === '' ? entry.name : `${path}/${entry.name}`;
        this.add(repo, to, entry.isDirectory() ? from : readFileSync(from));
      }
      return;
    }
    const isLfs = /\.(safetensors|bin|ckpt)$/.test(path);
    const hash = isLfs ? createHash('sha256') : createHash('sha1').update(`blob ${source.length}\0`);
    const files = this.#repos.get(repo) ?? new Map<string, Stored>();
    this.#repos.set(repo, files.set(path, { bytes: source, etag: hash.update(source).digest('hex'), isLfs }));
  }

  /** Paths of the files whose bytes were requested, each once. */
  get served(): string[] {
    return [...new Set(this.transfers.map(({ path }) => path))].sort();
  }

  /** The size in bytes of a file in any repository. */
  sizeOf(path: string): number | undefined {
    return [...this.#repos.values()].find((files) => files.has(path))?.get(path)?.bytes.length;
  }

  #answer(request: IncomingMessage, response: ServerResponse): unknown {
    const { pathname } = new URL(request.url as string, 'http://127.0.0.1');
    this.requests.push(`${request.method} ${pathname}`);
    const api = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/(\w+)$/.exec(pathname);
    const resolve = /^\/([^/]+\/[^/]+)\/resolve\/(\w+)\/(.+)$/.exec(pathname);
    const store = /^\/lfs\/([^/]+\/[^/]+)\/(.+)$/.exec(pathname);
    const [, repo = '', , path = ''] = resolve ?? [];
    const files = this.#repos.get(api?.[1] ?? store?.[1] ?? repo);
    if (files === undefined) return fail(response, 401, 'RepoNotFound');
    if (api?.[2] === 'revision')
      return json(response, {
        _id: '1',
        id: api[1],
        sha: commit,
        siblings: [],
        lastModified: '2024-01-01T00:00:00.000Z',
      });
    if (api?.[2] === 'tree') return json(response, tree(files, this.claimedSize));
    // The LFS store is another host, which must not receive the token.
    if (store && request.headers.authorization !== undefined) return fail(response, 400, 'InvalidArgument');
    if (store)
      return this.#send(store[2] as string, files.get(store[2] as string) as Stored, request, response);

    const gate = this.gates.get(repo);
    const token = request.headers.authorization?.replace('Bearer ', '');
    if (gate !== undefined && token !== gate)
      return fail(response, token === undefined ? 401 : 403, 'GatedRepo');
    const file = files.get(path);
    if (file === undefined) return fail(response, 404, 'EntryNotFound');
    response.setHeader('x-repo-commit', commit);
    if (!file.isLfs) return this.#send(path, file, request, response);
    response.setHeader('x-linked-etag', `"${file.etag}"`);
    response.setHeader('x-linked-size', file.bytes.length);
    const location = `http://localhost:${this.#port}/lfs/${repo}/${path}`;
    return response.writeHead(302, { location }).end();
  }

  async #send(
    path: string,
    file: Stored,
    request: IncomingMessage,
    response: ServerResponse,
  ): Promise<unknown> {
    const { length } = file.bytes;
    const [, from, to] = /^bytes=(\d+)-(\d*)$/.exec(request.headers.range ?? '') ?? [];
    const start = Number(from ?? 0);
    const end = Math.min(to ? Number(to) + 1 : length, length);
    if (from !== undefined) response.setHeader('content-range', `bytes ${start}-${end - 1}/${length}`);
    const body = this.corrupt(path, file.bytes).subarray(start, end);
    const headers = { etag: `"${file.etag}"`, 'accept-ranges': 'bytes', 'content-length': body.length };
    response.writeHead(from === undefined ? 200 : 206, headers);
    if (request.method === 'HEAD') return response.end();
    // Clients request one byte to learn the size.
    if (to === '0') return response.end(body);
    const transfer = { path, start, sent: 0 };
    this.transfers.push(transfer);
    const cut = length > 10_000 ? this.cuts.shift() : undefined;
    const chunkSize = Math.min(16_384, this.rate / 20);
    while (transfer.sent < body.length && !response.destroyed) {
      const chunk = body.subarray(transfer.sent, Math.min(transfer.sent + chunkSize, cut ?? length));
      await new Promise((resolve) => response.write(chunk, resolve));
      transfer.sent += chunk.length;
      if (transfer.sent === cut) {
        // Clients discard received data that they have not read when the connection breaks.
        await new Promise((resolve) => setTimeout(resolve, 200));
        return response.destroy();
      }
      if (this.rate < Number.POSITIVE_INFINITY)
        await new Promise((resolve) => setTimeout(resolve, (1000 * chunk.length) / this.rate));
    }
    return response.end();
  }
}

function tree(files: ReadonlyMap<string, Stored>, claimedSize: number | undefined): object[] {
  return [...files].map(([path, { bytes, etag, isLfs }]) => ({
    type: 'file',
    path,
    size: claimedSize ?? bytes.length,
    oid: isLfs ? createHash('sha1').update(etag).digest('hex') : etag,
    ...(isLfs && { lfs: { oid: etag, size: bytes.length, pointerSize: 134 } }),
  }));
}

function json(response: ServerResponse, body: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}

function fail(response: ServerResponse, status: number, code: string): void {
  response.writeHead(status, { 'content-type': 'application/json', 'x-error-code': code });
  response.end(JSON.stringify({ error: code }));
}
