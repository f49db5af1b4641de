/**
 * @file Every route of the studio's API, enumerated: none answers without the token, to other sites or under other names, and
 * none leaves the studio's folders by a parameter. A route that is not described here fails.
 */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import { createApp, type StudioParts } from '../../src/studio/app.js';
import { type Studio, startStudio } from '../../src/studio/server.js';

let root: string;
let studio: Studio;
const at = (...parts: string[]): string => join(root, ...parts);

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'studio-routes-'));
  const step = { v: 1, type: 'step', step: 1, total_steps: 9, time: 1, loss: 1, note: 'secret' };
  for (const folder of ['outside', 'outside/validation', 'outside/checkpoint-1', 'runs/one', 'data'])
    mkdirSync(at(folder), { recursive: true });
  for (const name of [
    ...['metrics.jsonl', 'config.yaml', 'train.log', 'validation/step-1.png', 'data.json', '0.txt'],
    ...['checkpoint-1/ip_adapter.safetensors', '0000000000000-00000000.png'],
  ])
    writeFileSync(at('outside', name), `${JSON.stringify(step)}\n`);
  writeFileSync(at('runs/one/metrics.jsonl'), `${JSON.stringify({ ...step, note: 'open' })}\n`);
  symlinkSync(at('outside'), at('runs/linked'));
  symlinkSync(at('outside'), at('data/linked'));
  const options = { runs: at('runs'), datasets: [at('data')], models: [at('data')], port: 0 };
  studio = await startStudio(studioOptionsSchema.parse(options), ['false']);
});
afterAll(async () => {
  await studio.close();
  rmSync(root, { recursive: true });
});

interface Route {
  method: string;
  path: string;
}

/** Nothing of the parts is used to say which routes there are. */
const routes: Route[] = createApp(
  { rules: {}, folders: { datasets: [] } } as unknown as StudioParts,
  '/',
  () => Promise.reject(new Error('no page')),
)
  .routes.filter(({ method, path }) => method !== 'ALL' && path.startsWith('/api/'))
  .filter(
    ({ method, path }, i, all) => all.findIndex((one) => one.method === method && one.path === path) === i,
  );

/** What takes the place of a parameter in a path. */
const values: Readonly<Record<string, string>> = {
  id: 'one',
  step: '1',
  name: '0000000000000-00000000.png',
};

/** Of a route, everything besides parameters of its path that names a file or folder, as queries or bodies with `file` in it. */
const named: Readonly<Record<string, (file: string) => { query?: object; body?: object }[]>> = {
  'GET /api/datasets/rows': (path) => [{ query: { path } }],
  'GET /api/datasets/image': (path) => [{ query: { path, index: 0 } }],
  'GET /api/datasets/opening': (path) => [{ query: { path } }],
  'POST /api/datasets/checks': (file) => [
    { body: { options: { dataset: file } } },
    { body: { options: { dataset: at('data/none.json'), datasetRoot: file } } },
    { body: { options: { dataset: at('data'), model: file } } },
    { body: { options: { dataset: at('data'), imageEncoder: file } } },
  ],
  'POST /api/runs': (file) => [
    { body: { name: file, options: {} } },
    { body: { name: 'new', options: { model: file, imageEncoder: file, dataset: file } } },
  ],
  'POST /api/dry-run': (file) => [
    { body: { name: file, options: {} } },
    { body: { name: 'new', options: { model: file, imageEncoder: file, dataset: file } } },
  ],
  'POST /api/playground/jobs': (file) => [
    { body: { model: file } },
    { body: { model: 'org/name', adapters: [{ adapter: file, imageEncoder: 'org/name', images: [] }] } },
    { body: { model: 'org/name', adapters: [{ adapter: 'org/name/x', images: [file] }] } },
  ],
};

/** Routes whose only parameters are those of their paths, and numbers or fixed words. */
const unnamed = [
  ...['GET /api/about', 'GET /api/options', 'GET /api/presets', 'GET /api/runs', 'GET /api/runs/:id'],
  ...['series', 'events', 'log', 'samples/:step', 'checkpoints/:step/adapter'].map(
    (rest) => `GET /api/runs/:id/${rest}`,
  ),
  ...['POST /api/runs/:id/requests', 'POST /api/runs/:id/resume', 'DELETE /api/runs/:id/queue'],
  ...['GET /api/datasets', 'GET /api/datasets/checks'],
  ...['GET /api/datasets/checks/:id', 'DELETE /api/datasets/checks/:id'],
  ...['choices', 'jobs', 'jobs/:id/preview', 'images', 'images/:name', 'images/:name/settings'].map(
    (rest) => `GET /api/playground/${rest}`,
  ),
  ...['DELETE /api/playground/jobs/:id', 'DELETE /api/playground/images/:name'],
  'POST /api/playground/uploads',
];

const keyOf = ({ method, path }: Route): string => `${method} ${path}`;

/** Unlike fetch, it sends Host, and paths as they are. */
function ask(
  { method, path }: Route,
  headers: Record<string, string>,
  body?: object,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(
      {
        port: new URL(studio.url).port,
        path,
        method,
        headers: { 'Content-Type': 'application/json', ...headers },
      },
      (response) => {
        let text = '';
        response.on('data', (chunk) => {
          text += chunk;
        });
        response.on('end', () => resolve({ status: response.statusCode as number, text }));
      },
    );
    sent.on('error', reject);
    sent.end(body === undefined ? undefined : JSON.stringify(body));
  });
}
const auth = (): Record<string, string> => ({ Authorization: `Bearer ${studio.token}` });
const filled = (path: string): string => path.replace(/:(\w+)/g, (_, name: string) => values[name] as string);

it('has no route that is not described here', () => {
  expect(routes.map(keyOf).sort()).toEqual([...Object.keys(named), ...unnamed].sort());
  const parameters = routes.flatMap(({ path }) => path.match(/:\w+/g) ?? []);
  expect([...new Set(parameters)].sort()).toEqual(
    Object.keys(values)
      .map((name) => `:${name}`)
      .sort(),
  );
});

it('answers no route without the token, to another site, or under another name', async () => {
  for (const { method, path } of routes) {
    const route = { method, path: filled(path) };
    const key = keyOf(route);
    expect((await ask(route, {})).status, key).toBe(401);
    expect((await ask(route, { Authorization: 'Bearer x' })).status, key).toBe(401);
    expect((await ask(route, { ...auth(), Origin: 'http://evil.example' })).status, key).toBe(403);
    expect((await ask(route, { ...auth(), Host: 'evil.example' })).status, key).toBe(421);
  }
});

it('leaves its folders by no parameter of a path', async () => {
  const attacks = [
    ...['..', '%2e%2e', '..%2foutside', '..%2f..%2foutside', '%2e%2e%2f%2e%2e%2foutside', 'linked'],
    ...['one%2f..%2f..%2foutside', '%2fetc%2fpasswd', '..%5c..%5coutside', '....%2f%2foutside', '%00'],
    ...['1%2f..%2f1', '..%2f1', '..%252foutside', '%c0%ae%c0%ae%2foutside', '%'],
    ...[`..%2f..%2foutside%2f${values.name}`, encodeURIComponent(at('outside'))],
  ];
  for (const { method, path } of routes)
    for (const [parameter] of path.matchAll(/:\w+/g))
      for (const attack of attacks) {
        const attacked = { method, path: filled(path.replace(parameter, attack)) };
        const { status, text } = await ask(
          attacked,
          auth(),
          method === 'POST' ? { request: 'save' } : undefined,
        );
        expect([400, 404, 409], `${keyOf(attacked)} ${text}`).toContain(status);
        expect(text).not.toContain('secret');
      }
});

it('leaves its folders by no path in a query or a body', async () => {
  const files = [
    ...[at('outside'), at('outside/data.json'), at('data/../outside'), at('data/linked')],
    ...[at('data/linked/data.json'), at('runs/linked'), '/etc/passwd', '../outside', 'src/studio'],
    ...['file:///etc/passwd', `${at('data')}\u0000/../outside`],
  ];
  for (const route of routes)
    for (const file of files)
      for (const { query = {}, body } of named[keyOf(route)]?.(file) ?? []) {
        const search = new URLSearchParams(query as Record<string, string>);
        const { status, text } = await ask({ ...route, path: `${route.path}?${search}` }, auth(), body);
        expect(status, `${keyOf(route)} ${JSON.stringify(body ?? query)} ${text}`).toBe(422);
        expect(text).not.toContain('secret');
      }
});
