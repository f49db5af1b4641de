/**
 * @file A local server with the Hub's API for uploads, as huggingface_hub's client uses it (`src/huggingface_hub/hf_api.py`,
 * `_commit_api.py`, `lfs.py`): create a repository, preupload, LFS batch with basic and multipart transfers
 * and verification, commit.
 */
import { createHash } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

interface Part {
  bytes: Buffer;
  etag: string;
}

export class HubUploadServer {
  readonly #server = createServer((request, response) => void this.#answer(request, response));
  /** Large files are stored at another address, as the Hub's are. */
  readonly #storage = createServer((request, response) => void this.#answerStorage(request, response));
  /** The committed files of each repository. */
  readonly repos = new Map<string, Map<string, Buffer>>();
  /** LFS objects by SHA-256. */
  readonly objects = new Map<string, Buffer>();
  readonly #parts = new Map<string, Map<number, Part>>();
  /** Method and path of every request. */
  readonly requests: string[] = [];
  /** The only token that may write. */
  token = 'hf_writer';
  /** Tokens that came to the store. */
  readonly leaked: string[] = [];
  /** The objects that the Hub was asked to verify. */
  readonly verified: string[] = [];
  /** Larger files go in parts of this size. */
  partBytes = 5000;
  /** The status that the next requests to a path get instead of an answer; 0 breaks the connection. */
  faults: { path: RegExp; status: number; times: number }[] = [];
  /** Requests to these paths are redirected to the store. */
  redirected: RegExp | null = null;

  async start(): Promise<string> {
    for (const server of [this.#server, this.#storage])
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    return this.#url;
  }

  get #url(): string {
    return addressOf(this.#server);
  }

  stop(): void {
    for (const server of [this.#server, this.#storage]) {
      server.closeAllConnections();
      server.close();
    }
  }

  /** @returns whether the request was answered with a fault */
  #isFaulty(request: IncomingMessage, response: ServerResponse, pathname: string): boolean {
    this.requests.push(`${request.method} ${pathname}`);
    const fault = this.faults.find(({ path, times }) => times > 0 && path.test(pathname));
    if (fault === undefined) return false;
    fault.times--;
    if (fault.status === 0) request.socket.destroy();
    else {
      request.resume();
      json(response, fault.status, { error: 'fault' });
    }
    return true;
  }

  async #answerStorage(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const { pathname } = new URL(request.url as string, this.#url);
    if (request.headers.authorization !== undefined) this.leaked.push(request.headers.authorization);
    if (this.#isFaulty(request, response, pathname)) return;
    const [, oid, part] = /^\/store\/(\w+)(?:\/(\d+))?$/.exec(pathname) ?? [];
    const body = await bodyOf(request);
    if (oid === undefined) return json(response, 404, { error: 'not in the store' });
    return this.#store(request, response, body, oid, part);
  }

  async #answer(request: IncomingMessage, response: ServerResponse): Promise<unknown> {
    const { pathname } = new URL(request.url as string, this.#url);
    if (this.#isFaulty(request, response, pathname)) return;
    if (this.redirected?.test(pathname)) {
      request.resume();
      return response.writeHead(307, { location: `${addressOf(this.#storage)}${pathname}` }).end();
    }
    const body = await bodyOf(request);
    const token = request.headers.authorization?.replace('Bearer ', '');
    if (token === undefined || !token.startsWith('hf_'))
      return json(response, 401, { error: 'Unauthorized' });
    if (token !== this.token) return json(response, 403, { error: 'Forbidden' });
    // The client asks whether the metadata at the top of README.md is right.
    if (pathname === '/api/validate-yaml') return json(response, 200, { errors: [], warnings: [] });
    if (pathname === '/api/repos/create') return this.#create(response, parse(body));
    const [, repo = '', action] =
      /^\/api\/models\/([^/]+\/[^/]+)\/(preupload|commit)\/main$/.exec(pathname) ??
      /^\/([^/]+\/[^/]+)\.git\/info\/lfs\/objects\/(batch|verify)$/.exec(pathname) ??
      [];
    const files = this.repos.get(repo);
    if (files === undefined) return json(response, 404, { error: 'Repository not found' });
    if (action === 'preupload') return json(response, 200, { files: parse(body).files.map(uploadMode) });
    if (action === 'batch') return this.#batch(response, repo, parse(body));
    if (action === 'verify') {
      const { oid, size } = parse(body);
      this.verified.push(oid);
      const isStored = this.objects.get(oid)?.length === size;
      return json(response, isStored ? 200 : 404, isStored ? {} : { error: 'no such object' });
    }
    return this.#commit(response, repo, files, body.toString());
  }

  #create(response: ServerResponse, { name, organization }: Record<string, string>): unknown {
    const repo = `${organization}/${name}`;
    if (organization === 'nobody') return json(response, 404, { error: 'no such organization' });
    if (this.repos.has(repo))
      return json(response, 409, {
        error: 'You already created this model repo',
        url: `${this.#url}/${repo}`,
      });
    this.repos.set(repo, new Map());
    return json(response, 200, { url: `${this.#url}/${repo}`, id: repo });
  }

  #batch(
    response: ServerResponse,
    repo: string,
    { objects, transfers }: { objects: { oid: string; size: number }[]; transfers: string[] },
  ): unknown {
    const transfer = transfers.includes('multipart') ? 'multipart' : 'basic';
    return json(response, 200, {
      transfer,
      objects: objects.map(({ oid, size }) => {
        if (this.objects.has(oid)) return { oid, size };
        const href = `${addressOf(this.#storage)}/store/${oid}`;
        const verify = { href: `${this.#url}/${repo}.git/info/lfs/objects/verify` };
        if (size <= this.partBytes) return { oid, size, actions: { upload: { href }, verify } };
        this.#parts.set(oid, new Map());
        const count = Math.ceil(size / this.partBytes);
        const urls = Array.from({ length: count }, (_, i) => [
          String(i + 1).padStart(5, '0'),
          `${href}/${i + 1}`,
        ]);
        return {
          oid,
          size,
          actions: {
            upload: { href, header: { chunk_size: String(this.partBytes), ...Object.fromEntries(urls) } },
            verify,
          },
        };
      }),
    });
  }

  #store(
    request: IncomingMessage,
    response: ServerResponse,
    body: Buffer,
    oid: string,
    part: string | undefined,
  ): unknown {
    const parts = this.#parts.get(oid);
    if (part !== undefined) {
      const etag = `"${createHash('md5').update(body).digest('hex')}"`;
      parts?.set(Number(part), { bytes: body, etag });
      response.setHeader('etag', etag);
      return json(response, 200, {});
    }
    let whole = body;
    if (request.method === 'POST') {
      const wanted = parse(body).parts as { partNumber: number; etag: string }[];
      const sent = wanted.map(({ partNumber, etag }) => {
        const one = parts?.get(partNumber);
        return one?.etag === etag ? one.bytes : Buffer.alloc(0);
      });
      whole = Buffer.concat(sent);
    }
    if (createHash('sha256').update(whole).digest('hex') !== oid)
      return json(response, 400, { error: 'wrong content' });
    this.objects.set(oid, whole);
    return json(response, 200, {});
  }

  #commit(response: ServerResponse, repo: string, files: Map<string, Buffer>, body: string): unknown {
    const lines = body
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    if (lines[0].key !== 'header' || lines[0].value.summary === '')
      return json(response, 400, { error: 'no header' });
    const added = new Map<string, Buffer>();
    for (const { key, value } of lines.slice(1)) {
      const content =
        key === 'lfsFile' ? this.objects.get(value.oid) : Buffer.from(value.content, value.encoding);
      if (content === undefined) return json(response, 400, { error: `no object for ${value.path}` });
      added.set(value.path, content);
    }
    for (const [path, content] of added) files.set(path, content);
    const commitOid = createHash('sha1').update(body).digest('hex');
    return json(response, 200, {
      success: true,
      commitOid,
      commitUrl: `${this.#url}/${repo}/commit/${commitOid}`,
      hookOutput: '',
    });
  }
}

function addressOf(server: Server): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function uploadMode({ path }: { path: string }): object {
  const isLarge = /\.(safetensors|bin|png)$/.test(path);
  return { path, uploadMode: isLarge ? 'lfs' : 'regular', shouldIgnore: false, oid: null };
}

// biome-ignore lint/suspicious/noExplicitAny: the shapes of several requests
function parse(body: Buffer): any {
  return JSON.parse(body.toString());
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  for await (const piece of request) pieces.push(piece);
  return Buffer.concat(pieces);
}

function json(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
