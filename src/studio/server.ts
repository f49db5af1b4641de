/** @file Serves the studio: the page, which is free, and the API, which is not. The process has no tensors. */
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { getRequestListener } from '@hono/node-server';
import { ConfigError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import { isLoopback, type StudioOptions } from '../options/studio-options.js';
import { newToken } from './access.js';
import { AdapterExports } from './adapter-export.js';
import { createApp } from './app.js';
import { DatasetChecks } from './dataset-checks.js';
import { DatasetProcess } from './dataset-process.js';
import { DryRuns } from './dry-run.js';
import { Gallery } from './gallery.js';
import { runHook } from './hook.js';
import { Playground } from './playground.js';
import { TrainingQueue } from './queue.js';
import { Runs } from './runs.js';
import { type StudioEvent, watchRuns } from './watcher.js';

const page = fileURLToPath(new URL('../../dist/studio-page/', import.meta.url));
const MAX_CONNECTIONS = 256;

const types: Readonly<Record<string, string>> = {
  '.html': 'text/html; charset=utf-8',
  '.js': 'text/javascript; charset=utf-8',
  '.css': 'text/css; charset=utf-8',
  '.svg': 'image/svg+xml',
};

export interface Studio {
  /** The address to open, with the token in its fragment, which no server and no Referer is told. */
  url: string;
  token: string | undefined;
  close(): Promise<void>;
}

/**
 * Starts the studio.
 * @param command the words that start `ip-adapter`
 * @throws ConfigError where options contradict each other, or the port is taken
 */
export async function startStudio(options: StudioOptions, command: readonly string[]): Promise<Studio> {
  if (!options.token && !isLoopback(options.host))
    throw new ConfigError(
      `--no-token goes together with loopback only: everybody who reaches ${options.host} could start trainings. Leave it out`,
    );
  if (!existsSync(join(page, 'index.html')))
    throw new ConfigError(`The page is missing in ${page}: run npm run build`);
  makeFolder(options.runs);
  const folder = realpathSync(options.runs);
  const { token } = options;
  const secret = token ? (process.env.IP_ADAPTER_STUDIO_TOKEN ?? newToken()) : undefined;
  const runs = new Runs(folder);
  const tell = (event: StudioEvent): void => runHook(options.onEvent, event);
  const queue = new TrainingQueue({
    ...{ folder, command, jobs: options.jobs },
    onEnd: (run, failed) => tell({ type: 'end', run, folder: join(folder, run), failed }),
  });
  const watching = new AbortController();
  const isQueued = (run: string): boolean => queue.statusOf(run) !== undefined;
  const watched =
    options.onEvent === undefined ? undefined : watchRuns(runs, isQueued, tell, watching.signal);
  const gallery = new Gallery(folder);
  const playground = new Playground(gallery);
  const { shardCacheSize } = options;
  const datasetFolders = options.datasets.length > 0 ? options.datasets : [folder];
  const datasets = new DatasetProcess({ roots: [...datasetFolders, folder], shardCacheSize });
  const checks = new DatasetChecks();
  const app = createApp(
    {
      ...{ playground, gallery, datasets, checks },
      ...{ dryRuns: new DryRuns(command), adapterExports: new AdapterExports(command) },
      runs,
      queue,
      folders: { runs: folder, datasets: datasetFolders, models: options.models },
      shardCacheSize,
      rules: {
        token: secret,
        allowedHosts: options.allowedHost,
        isPublic: !isLoopback(options.host),
      },
      version: versionOf(),
    },
    options.basePath,
    shell,
  );
  const server = createServer(
    { headersTimeout: 10_000, requestTimeout: 60_000 },
    getRequestListener(app.fetch),
  );
  server.maxConnections = MAX_CONNECTIONS;
  await listen(server, options);
  const { port } = server.address() as AddressInfo;
  const host = options.host === '0.0.0.0' || options.host === '::' ? '127.0.0.1' : options.host;
  const base = options.basePath.replace(/\/?$/, '/');
  const shownHost = host.includes(':') ? `[${host}]` : host;
  return {
    url: `http://${shownHost}:${port}${base}${secret === undefined ? '' : `#token=${secret}`}`,
    token: secret,
    close: async () => {
      queue[Symbol.dispose]();
      playground[Symbol.dispose]();
      datasets[Symbol.dispose]();
      checks[Symbol.dispose]();
      watching.abort();
      await watched;
      server.closeAllConnections();
      await new Promise((done) => server.close(done));
    },
  };
}

async function listen(server: Server, { host, port }: StudioOptions): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(
        new ConfigError(
          `The studio cannot listen on ${host}:${port}: ${cause.message}; give another --port`,
          {
            cause,
          },
        ),
      ),
    );
    server.listen(port, host, resolve);
  });
}

/** Serves a file of the page. Only names as the build makes them are looked for. */
async function shell(path: string): Promise<Response> {
  const name = path === '' || path === '/' ? 'index.html' : path.slice(1);
  if (!/^(index\.html|favicon\.svg|assets\/[\w.-]+)$/.test(name) || name.includes('..'))
    return new Response('Not found', { status: 404 });
  const bytes = await readFile(join(page, name)).catch(() => undefined);
  if (bytes === undefined) return new Response('Not found', { status: 404 });
  return new Response(new Uint8Array(bytes), {
    headers: {
      'Content-Type': types[extname(name)] ?? 'application/octet-stream',
      // The names of assets have their hash.
      'Cache-Control': name.startsWith('assets/') ? 'public, max-age=31536000, immutable' : 'no-cache',
    },
  });
}

function versionOf(): string {
  const file = new URL('../../package.json', import.meta.url);
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
