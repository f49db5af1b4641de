/** @file A local server of files with faults: slow, cut, errors, redirects, without ranges or length, files that change. */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';

export class FileServer {
  readonly files = new Map<string, Buffer>();
  /** Every request: method, path, range. */
  readonly requests: string[] = [];
  /** Status codes that the next requests are answered with. */
  readonly errors: number[] = [];
  /** The numbers of bytes after which the next connections are cut. */
  readonly cuts: number[] = [];
  /** Status codes of paths. */
  readonly refused = new Map<string, number>();
  /** Where paths are redirected to. */
  readonly redirects = new Map<string, string>();
  /** The token that is asked for; '' for none. */
  token = '';
  hasRanges = true;
  hasHead = true;
  hasLength = true;
  /** Milliseconds before each chunk of 16 KiB. */
  delay = 0;
  readonly #server = createServer((request, response) => void this.#answer(request, response));

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, '127.0.0.1', resolve));
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url ?? '';
    const { range, authorization } = request.headers;
    this.requests.push(`${request.method} ${path}${range === undefined ? '' : ` ${range}`}`);
    const location = this.redirects.get(path);
    const bytes = this.files.get(path);
    const status =
      (this.token !== '' && authorization !== `Bearer ${this.token}` ? 401 : undefined) ??
      this.refused.get(path) ??
      this.errors.shift() ??
      (request.method === 'HEAD' && !this.hasHead ? 405 : undefined);
    if (status !== undefined) return void response.writeHead(status).end();
    if (location !== undefined) return void response.writeHead(302, { location }).end();
    if (bytes === undefined) return void response.writeHead(404).end();
    const etag = `"${createHash('md5').update(bytes).digest('hex')}"`;
    const start = this.hasRanges ? Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1] ?? Number.NaN) : Number.NaN;
    const end =
      /-(\d+)$/.exec(range ?? '')?.[1] === undefined ? bytes.length : Number(/-(\d+)$/.exec(range!)![1]) + 1;
    const isPart = !Number.isNaN(start);
    if (isPart && start >= bytes.length) return void response.writeHead(416).end();
    const part = isPart ? bytes.subarray(start, end) : bytes;
    response.writeHead(isPart ? 206 : 200, {
      etag,
      ...(this.hasLength && { 'content-length': part.length }),
      ...(isPart && { 'content-range': `bytes ${start}-${start + part.length - 1}/${bytes.length}` }),
    });
    if (request.method === 'HEAD') return void response.end();
    const cut = this.cuts.shift() ?? Number.POSITIVE_INFINITY;
    if (cut === 0) return void response.destroy();
    for (let at = 0; at < part.length; at += 16384) {
      if (this.delay > 0) await setTimeout(this.delay);
      const chunk = part.subarray(at, Math.min(at + 16384, cut));
      await new Promise<void>((resolve) => response.write(chunk, () => resolve()));
      if (at + 16384 >= cut) return void response.destroy();
    }
    response.end();
  }
}
