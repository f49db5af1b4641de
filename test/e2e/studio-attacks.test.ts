/** @file What the studio must not do, whoever asks. */
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { studioOptionsSchema } from '../../src/options/studio-options.js';
import { type Studio, startStudio } from '../../src/studio/server.js';
import { ipAdapter } from './command.js';

let root: string;
let studio: Studio;
let port: number;
const at = (...parts: string[]): string => join(root, ...parts);

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'studio-'));
  mkdirSync(at('runs', 'one', 'validation'), { recursive: true });
  mkdirSync(at('runs', 'one', 'checkpoint-1'));
  writeFileSync(at('secret.png'), 'secret');
  mkdirSync(at('outside'));
  writeFileSync(at('outside', 'metrics.jsonl'), `${JSON.stringify({ ...stepLine(1), note: 'secret' })}\n`);
  writeFileSync(at('outside', 'config.yaml'), 'note: secret\n');
  mkdirSync(at('runs', 'two'));
  for (const name of ['metrics.jsonl', 'config.yaml'])
    symlinkSync(at('outside', name), at('runs', 'two', name));
  const lines = Array.from({ length: 3 }, (_, i) => JSON.stringify(stepLine(i + 1)));
  writeFileSync(at('runs', 'one', 'metrics.jsonl'), `${lines.join('\n')}\n`);
  symlinkSync(at('outside'), at('runs', 'linked'));
  symlinkSync(at('secret.png'), at('runs', 'one', 'validation', 'step-1.png'));
  symlinkSync(at('secret.png'), at('runs', 'one', 'checkpoint-1', 'ip_adapter.safetensors'));
  symlinkSync(at('secret.png'), at('runs', 'one', 'train.log'));
  // A PNG of 30000 x 30000 pixels, of which nothing follows.
  writeFileSync(at('runs', 'one', 'validation', 'step-2.png'), bomb());
  studio = await startStudio(studioOptionsSchema.parse({ runs: at('runs'), port: 0 }), ['false']);
  port = Number(new URL(studio.url).port);
});
afterAll(async () => {
  await studio.close();
  rmSync(root, { recursive: true });
});

const stepLine = (step: number) => ({ v: 1, type: 'step', step, total_steps: 9, time: 1, loss: 1 / step });

function bomb(): Buffer {
  const header = Buffer.alloc(33);
  Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]).copy(header);
  header.writeUInt32BE(13, 8);
  header.write('IHDR', 12);
  header.writeUInt32BE(30_000, 16);
  header.writeUInt32BE(30_000, 20);
  header.set([8, 2, 0, 0, 0], 24);
  return header;
}

interface Answer {
  status: number;
  text: string;
  headers: Record<string, unknown>;
}

/** Unlike fetch, it sends Host, and paths as they are. */
function ask(
  path: string,
  headers: Record<string, string> = {},
  method = 'GET',
  body?: string | Buffer,
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const sent = request({ port, path, method, headers }, (response) => {
      let text = '';
      response.on('data', (chunk) => {
        text += chunk;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode as number, text, headers: response.headers }),
      );
    });
    sent.on('error', reject);
    sent.end(body);
  });
}
const auth = () => ({ Authorization: `Bearer ${studio.token}` });

it('answers with the token only, and serves the page without', async () => {
  expect((await ask('/api/runs')).status).toBe(401);
  for (const wrong of ['', 'x', `${studio.token}x`, (studio.token as string).slice(1)])
    expect((await ask('/api/runs', { Authorization: `Bearer ${wrong}` })).status).toBe(401);
  expect((await ask(`/api/runs?token=${studio.token}`)).status).toBe(401);
  expect((await ask('/api/unknown')).status).toBe(401);
  const runs = await ask('/api/runs', auth());
  expect(runs.status).toBe(200);
  expect(JSON.parse(runs.text)).toMatchObject([
    { id: 'one', step: 3, totalSteps: 9, status: 'stopped' },
    { id: 'two', step: 0 },
  ]);
  const page = await ask('/');
  expect(page.status).toBe(200);
  expect(page.text).not.toContain(studio.token);
  expect(page.headers['content-security-policy']).toContain("frame-ancestors 'none'");
  expect(page.headers['referrer-policy']).toBe('no-referrer');
});

it('refuses other sites and other names, with the token too', async () => {
  for (const Origin of [
    'http://evil.example',
    'null',
    'http://127.0.0.1:1',
    `http://localhost:${port}.evil.example`,
  ])
    expect((await ask('/api/runs', { ...auth(), Origin })).status, Origin).toBe(403);
  expect(
    (await ask('/api/runs', { ...auth(), Origin: `http://127.0.0.1:${port}`, Host: `127.0.0.1:${port}` }))
      .status,
  ).toBe(200);
  for (const Host of ['evil.example', `evil.example:${port}`, '8.8.8.8', 'localhost.evil.example'])
    expect((await ask('/api/runs', { ...auth(), Host })).status, Host).toBe(421);
  expect((await ask('/api/runs', { ...auth(), Host: 'localhost:9' })).status).toBe(200);
  expect((await ask('/api/runs', { ...auth(), 'Sec-Fetch-Site': 'cross-site' })).status).toBe(403);
});

it('leaves the folder of runs by no path and no link', async () => {
  const ids = [
    '..',
    '%2e%2e',
    '..%2f..%2fetc',
    '%2e%2e%2foutside',
    '..%2Foutside',
    'linked',
    'one%2f..%2f..%2foutside',
    '%00',
    'one%2F..',
  ];
  for (const id of ids)
    for (const rest of ['', '/series', '/events', '/log', '/samples/1', '/checkpoints/1/adapter']) {
      const { status, text } = await ask(`/api/runs/${id}${rest}`, auth());
      expect([400, 404], `${id}${rest}`).toContain(status);
      expect(text).not.toContain('secret');
    }
  for (const path of [
    ...['samples/1', 'samples/..%2f..%2fsecret', 'samples/1%2e%2e', 'log'],
    ...['checkpoints/1/adapter', 'checkpoints/..%2f1/adapter', 'checkpoints/%2e%2e/adapter'],
    'checkpoints/1/adapter?form=bin',
  ]) {
    const { status, text } = await ask(`/api/runs/one/${path}`, auth());
    expect(status, path).toBe(404);
    expect(text).not.toContain('secret');
  }
  const linked = JSON.parse((await ask('/api/runs/two', auth())).text);
  expect(linked).toMatchObject({ options: null, events: [], summary: { step: 0, time: null } });
  expect((await ask('/api/runs/two/series', auth())).text).not.toContain('loss');
  for (const path of [
    '/../package.json',
    '/assets/..%2f..%2f..%2fpackage.json',
    '/assets/../../../package.json',
    '/%2e%2e/package.json',
  ])
    expect((await ask(path)).status, path).toBe(404);
});

it('starts no training from outside of its folders', async () => {
  const post = (body: object) =>
    ask('/api/runs', { ...auth(), 'Content-Type': 'application/json' }, 'POST', JSON.stringify(body));
  const options = {
    model: '/etc',
    imageEncoder: 'org/name/folder',
    dataset: '/etc/passwd',
    cacheDir: '/tmp/elsewhere',
    loggingDir: '../../elsewhere',
    validationDataset: at('outside'),
    dinoEncoder: at('outside'),
    // It looks like a name on the Hub, and is a folder here.
    adapter: 'src/studio',
    datasetRoot: at('outside'),
    validationImages: [at('secret.png')],
  };
  const { status, text } = await post({ name: 'new', options });
  expect(status).toBe(422);
  expect(Object.keys(JSON.parse(text).errors).sort()).toEqual([
    'adapter',
    'cacheDir',
    'dataset',
    'datasetRoot',
    'dinoEncoder',
    'loggingDir',
    'model',
    'validationDataset',
    'validationImages',
  ]);
  const tried = await ask(
    '/api/dry-run',
    { ...auth(), 'Content-Type': 'application/json' },
    'POST',
    JSON.stringify({ name: 'new', options }),
  );
  expect([tried.status, JSON.parse(tried.text)]).toEqual([422, JSON.parse(text)]);
  for (const name of ['../new', '', '.studio', 'a/b', 'a\u0000b', 5])
    expect((await post({ name, options })).status, String(name)).toBe(422);
  const unknown = await post({
    name: 'new',
    options: { learning_rat: 1, batchSize: 0, outputDir: '/tmp/x' },
  });
  expect(JSON.parse(unknown.text).errors).toMatchObject({
    learningRat: expect.any(String),
    batchSize: expect.any(String),
  });
});

it('takes no large body, and decodes no bomb', async () => {
  const headers = { ...auth(), 'Content-Type': 'application/json' };
  const { status } = await ask('/api/runs/one/requests', headers, 'POST', ' '.repeat(2 ** 21));
  expect(status).toBe(413);
  const claimed = await new Promise<number>((resolve) => {
    const sent = request(
      { port, path: '/api/runs', method: 'POST', headers: { ...headers, 'Content-Length': 2 * 2 ** 30 } },
      (response) => resolve(response.statusCode as number),
    );
    sent.on('error', () => resolve(-1));
    sent.write('x');
  });
  // The connection may be closed before the answer is read.
  expect([413, -1]).toContain(claimed);
  expect((await ask('/api/runs/one/samples/2?width=100', auth())).status).toBe(422);
  expect((await ask('/api/runs', headers, 'POST', '{')).status).toBe(400);
});

it('keeps the playground to its folders, and uploads to images of a bounded size', async () => {
  const upload = (body: Buffer | string, headers: Record<string, string> = auth()) =>
    ask('/api/playground/uploads', headers, 'POST', body);
  expect((await upload('x', {})).status).toBe(401);
  expect((await upload('secret')).status).toBe(422);
  expect((await upload(bomb())).status).toBe(422);
  expect((await upload('<svg xmlns="http://www.w3.org/2000/svg"/>')).status).toBe(422);
  const claimed = await new Promise<number>((resolve) => {
    const headers = { ...auth(), 'Content-Length': 2 * 2 ** 30 };
    const sent = request(
      { port, path: '/api/playground/uploads', method: 'POST', headers },
      ({ statusCode }) => resolve(statusCode as number),
    );
    sent.on('error', () => resolve(-1));
    sent.write('x');
  });
  expect([413, -1]).toContain(claimed);
  // Without a length, it is cut off when it is too long.
  const before = process.memoryUsage.rss();
  const streamed = await new Promise<number>((resolve) => {
    const sent = request(
      { port, path: '/api/playground/uploads', method: 'POST', headers: auth() },
      ({ statusCode }) => resolve(statusCode as number),
    );
    sent.on('error', () => resolve(-1));
    const piece = Buffer.alloc(2 ** 20);
    let written = 0;
    const more = (): void => {
      while (written++ < 200) if (!sent.write(piece)) return void sent.once('drain', more);
      sent.end();
    };
    more();
  });
  expect([413, -1]).toContain(streamed);
  expect(process.memoryUsage.rss() - before).toBeLessThan(400 * 2 ** 20);
  expect(readdirSync(at('runs/.studio/uploads'))).toEqual([]);

  const png = await sharp({ create: { width: 9, height: 9, channels: 3, background: 'red' } })
    .png()
    .toBuffer();
  const { status, text } = await upload(png);
  expect(status).toBe(201);
  const { name } = JSON.parse(text);
  expect((await ask(`/api/playground/images/${name}`, auth())).headers['content-type']).toBe('image/png');
  // Only what was generated can be removed.
  expect((await ask(`/api/playground/images/${name}`, auth(), 'DELETE')).status).toBe(404);
  for (const wrong of [
    '..',
    '..%2f..%2fsecret.png',
    '%2e%2e%2fqueue.json',
    'queue.json',
    `..%2fuploads%2f${name}`,
  ])
    for (const rest of ['', '?width=64', '/settings']) {
      const answer = await ask(`/api/playground/images/${wrong}${rest}`, auth());
      expect([400, 404], wrong).toContain(answer.status);
    }
  // A name as the gallery's, which leads out.
  const linked = `${'0'.repeat(32)}.png`;
  symlinkSync(at('secret.png'), at('runs/.studio/uploads', linked));
  const outside = {
    model: '/etc',
    adapters: [{ adapter: at('secret.png'), imageEncoder: at('outside'), images: ['../../secret.png'] }],
    loras: [{ path: '../secret.png' }, { path: at('runs', 'linked', 'lora.safetensors') }],
    controlnet: [at('runs', '..', 'outside'), at('runs', 'linked')],
    controlImage: ['../secret.png', linked],
    ...{ initImage: at('secret.png'), maskImage: linked },
  };
  const json = { ...auth(), 'Content-Type': 'application/json' };
  const job = await ask('/api/playground/jobs', json, 'POST', JSON.stringify(outside));
  expect(job.status).toBe(422);
  expect(Object.keys(JSON.parse(job.text).errors).sort()).toEqual([
    'adapters[0].adapter',
    'adapters[0].imageEncoder',
    'adapters[0].images',
    ...['controlImage[0]', 'controlImage[1]', 'controlnet[0]', 'controlnet[1]'],
    ...['initImage', 'loras[0].path', 'loras[1].path', 'maskImage', 'model'],
  ]);
  expect((await ask(`/api/playground/images/${linked}`, auth())).status).toBe(404);
  const many = { model: 'org/name', prompt: 'x', numImages: 1000, vaeTiling: true };
  const refused = await ask('/api/playground/jobs', json, 'POST', JSON.stringify(many));
  expect(refused.status).toBe(422);
  expect(statSync(at('runs/.studio/uploads')).mode & 0o777).toBe(0o700);
});

it('opens a bounded number of streams, serves others meanwhile, and stays small', async () => {
  const before = process.memoryUsage.rss();
  const sockets = Array.from({ length: 200 }, () => {
    const socket = connect(port, '127.0.0.1');
    socket.on('error', () => {});
    socket.write(
      `GET /api/runs/one/events HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer ${studio.token}\r\n\r\n`,
    );
    return socket;
  });
  const heads = await Promise.all(
    sockets.map(
      (socket) =>
        new Promise<string>((resolve) =>
          socket.once('data', (data) => resolve(String(data))).once('close', () => resolve('')),
        ),
    ),
  );
  const opened = heads.filter((head) => head.startsWith('HTTP/1.1 200')).length;
  expect(opened).toBe(32);
  expect(heads.filter((head) => head.startsWith('HTTP/1.1 503')).length).toBe(168);
  // The others are served meanwhile.
  expect((await ask('/api/runs', auth())).status).toBe(200);
  for (const socket of sockets) socket.destroy();
  await until(
    async () =>
      (await ask('/api/runs/one/events', { ...auth(), Host: '127.0.0.1' }).catch(() => ({ status: 0 })))
        .status !== 503,
  );
  expect(process.memoryUsage.rss() - before).toBeLessThan(200 * 2 ** 20);
});

it('gives --no-token on loopback only', async () => {
  const child = spawn(process.execPath, [
    ipAdapter,
    'studio',
    '--runs',
    at('runs'),
    '--host',
    '0.0.0.0',
    '--no-token',
    '--port',
    '0',
  ]);
  let err = '';
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  const code = await new Promise((resolve) => child.on('close', resolve));
  expect([code, err]).toEqual([2, expect.stringContaining('--no-token goes together with loopback only')]);
});

async function until(isDone: () => Promise<boolean>): Promise<void> {
  for (let i = 0; i < 100; i++) {
    const result = await Promise.race([isDone(), sleep(500).then(() => true)]);
    if (result) return;
    await sleep(50);
  }
  throw new Error('it did not come to pass');
}
