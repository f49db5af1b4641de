import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { train } from '../../src/index.js';
import { HubUploadServer } from '../hub-upload-server.js';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { type Ended, ipAdapter, runProgram } from './command.js';

let world: Adapted;
let server: HubUploadServer;
let url: string;
const at = (...names: string[]) => join(world.root, ...names);
const checkpoint = () => at('run', 'checkpoint-2');

beforeAll(async () => {
  world = await makeAdaptedWorld();
  await train({
    ...{
      model: world.model,
      imageEncoder: world.imageEncoder,
      dataset: at('data.json'),
      datasetRoot: at('images'),
    },
    ...{ outputDir: at('run'), resolution: 64, batchSize: 2, maxSteps: 2, learningRate: 3e-4, useEma: true },
    validationSplit: 3,
  });
  mkdirSync(at('run', 'validation'));
  writeFileSync(at('run', 'validation', 'step-2.png'), readFileSync(world.picture(0)));
});
afterAll(() => world.remove());
beforeEach(async () => {
  server = new HubUploadServer();
  url = await server.start();
});
afterEach(() => server.stop());

function publish(
  flags: string[] = [],
  env: Record<string, string> = { HF_TOKEN: 'hf_writer' },
  name = 'me/adapter',
): Promise<Ended> {
  const { HF_TOKEN: _, ...others } = process.env;
  return runProgram(process.execPath, [ipAdapter, 'publish', at('run'), name, ...flags], {
    cwd: world.root,
    env: { ...others, HF_ENDPOINT: url, HF_HOME: at('hf'), ...env },
  });
}

it('publishes the files with a card, in parts, and neither a path nor the token with them', {
  timeout: 60_000,
}, async () => {
  const { stdout, stderr, exitCode } = await publish(['--license', 'apache-2.0']);
  expect(exitCode, stderr).toBe(0);
  expect(stdout).toBe(`${url}/me/adapter`);
  const files = server.repos.get('me/adapter') as Map<string, Buffer>;
  expect([...files.keys()].sort()).toEqual([
    'README.md',
    'ip_adapter.safetensors',
    'ip_adapter_ema.safetensors',
    'samples/1.png',
  ]);
  expect(files.get('ip_adapter.safetensors')).toEqual(
    readFileSync(join(checkpoint(), 'ip_adapter.safetensors')),
  );
  expect(server.requests.filter((line) => line.startsWith('PUT')).length).toBeGreaterThan(10);
  const card = String(files.get('README.md'));
  expect(card).toMatch(/^---\nlicense: apache-2.0\nlibrary_name: diffusers\n/);
  expect(card).toContain('load_ip_adapter("me/adapter", subfolder="", weight_name="ip_adapter.safetensors"');
  expect(card).toContain('--learning-rate 0.0003');
  expect(card).toMatch(/\| steps +\| 2 \|/);
  expect(card).toContain('| training images | 5 |');
  expect(card).toMatch(/on 3 rows that were not trained on.* lower by -?\d\.\d{3} \(/);
  expect(card).toContain(
    'ComfyUI (ComfyUI_IPAdapter_plus) cannot load this adapter: it expects 12 attention heads',
  );
  for (const content of files.values()) {
    expect(content.includes(world.root)).toBe(false);
    expect(content.includes(homedir())).toBe(false);
  }
  expect(stderr + stdout + card).not.toContain('hf_writer');
  expect(server.leaked).toEqual([]);
  expect(server.verified.length).toBe(3);
});

it('shows what would go with --dry-run, with the scores of evaluate, and sends nothing', async () => {
  const { model, imageEncoder: encoder } = world;
  const words = [
    '--model',
    model,
    '--image-encoder',
    encoder,
    '--adapter',
    at('run'),
    '--dataset',
    at('data.json'),
  ];
  const sizes = [
    '--dataset-root',
    at('images'),
    '--steps',
    '2',
    '--width',
    '64',
    '--height',
    '64',
    '--max-rows',
    '3',
  ];
  const evaluated = await runProgram(process.execPath, [ipAdapter, 'evaluate', ...words, ...sizes], {
    cwd: world.root,
  });
  expect(evaluated.exitCode, evaluated.stderr).toBe(0);
  const { stdout, stderr, exitCode } = await publish(['--dry-run', '--evaluation', 'evaluation.json'], {});
  expect(exitCode, stderr).toBe(0);
  expect(stdout).toContain('# adapter');
  expect(stdout).toMatch(/On 3 reference images.*chance: 33\.3 %/s);
  expect(stdout).toMatch(/\| no adapter \| -?\d\.\d{3} \| -?\d\.\d{3} \| \d+\.\d %/);
  expect(stderr).toMatch(/ip_adapter\.safetensors +\d+ KiB/);
  expect(server.requests).toEqual([]);
});

it('sends a part again whose connection broke, and after a cut only what is missing', {
  timeout: 90_000,
}, async () => {
  server.faults = [
    { path: /^\/store\/\w+\/3$/, status: 0, times: 1 },
    { path: /\/objects\/batch$/, status: 503, times: 2 },
    { path: /\/commit\/main$/, status: 0, times: 1 },
  ];
  const cut = await publish();
  expect(cut.exitCode).toBe(2);
  expect(cut.stderr).toMatch(/A part could not be sent .*sent again/);
  expect(cut.stderr).toMatch(/A request could not be sent \(HTTP 503\)/);
  expect(cut.stderr).toMatch(/cannot be reached: .*Give the same command again/);
  expect(server.repos.get('me/adapter')?.size).toBe(0);
  server.requests.length = 0;
  const again = await publish();
  expect(again.exitCode, again.stderr).toBe(0);
  expect(server.requests.some((line) => line.startsWith('PUT'))).toBe(false);
  expect(server.repos.get('me/adapter')?.size).toBe(4);
});

it.each([
  ['no token', {}, 'me/adapter', /needs a token of the Hub with write access/],
  [
    'another token',
    { HF_TOKEN: 'hf_reader' },
    'me/adapter',
    /HTTP 403: the token .* may not write to me\/adapter/,
  ],
  [
    'no such organization',
    undefined,
    'nobody/adapter',
    /HTTP 404: there is no account or organization nobody/,
  ],
  ['a wrong name', undefined, 'adapter', /must be a model on the Hub, org\/name/],
] as const)('says what to do: %s', async (_, env, name, message) => {
  const { exitCode, stderr } = await publish([], env, name);
  expect([exitCode, stderr]).toEqual([2, expect.stringMatching(message)]);
});

it.each([
  [401, /HTTP 401: the token .* is not valid/],
  [409, /HTTP 409: the repository was changed at the same time/],
])('says what to do where the commit is answered %d', async (status, message) => {
  server.faults = [{ path: /\/commit\/main$/, status, times: 1 }];
  const { exitCode, stderr } = await publish();
  expect([exitCode, stderr]).toEqual([2, expect.stringMatching(message)]);
});

it('follows no redirect to another host, and sends it no token', async () => {
  server.redirected = /\/preupload\/main$/;
  const { exitCode, stderr } = await publish();
  expect([exitCode, stderr]).toEqual([
    2,
    expect.stringMatching(/HTTP 307, a redirect to http:.*HF_ENDPOINT/),
  ]);
  expect(server.leaked).toEqual([]);
  expect(server.repos.get('me/adapter')?.size).toBe(0);
});

it('fails where the Hub does not have what was sent', async () => {
  server.faults = [{ path: /\/objects\/verify$/, status: 404, times: 1 }];
  const { exitCode, stderr } = await publish();
  expect([exitCode, stderr]).toEqual([2, expect.stringMatching(/to have what was sent to .* HTTP 404/)]);
  expect(server.repos.get('me/adapter')?.size).toBe(0);
});
