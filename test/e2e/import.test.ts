/** @file Importing the library has no effect on the process; the first use has, in a worker thread as well. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const url = (path: string): string => JSON.stringify(pathToFileURL(join(root, path)).href);

/** Imports the library from `sources`, looks at the process, uses the engine, and looks again. */
const program = (sources: string, extension: string): string => `
  import { readFileSync } from 'node:fs';
  import { isMainThread, parentPort } from 'node:worker_threads';
  import sharp from ${url('node_modules/sharp/dist/index.mjs')};
  const state = () => JSON.stringify({
    environment: process.env, threads: sharp.concurrency(), cache: sharp.cache(),
    mapped: [...new Set(readFileSync('/proc/self/maps', 'utf8').match(/libtorch_cpu\\.so|ip_adapter\\.node/g))].sort(),
  });
  const before = state();
  await import(${url(`${sources}/index`).replace(/"$/, `${extension}"`)});
  const after = state();
  const { tensor } = await import(${url(`${sources}/torch/index`).replace(/"$/, `${extension}"`)});
  const { readImage } = await import(${url(`${sources}/images/image`).replace(/"$/, `${extension}"`)});
  const sum = tensor([1, 2, 3], [3]).sum().item();
  const file = ${JSON.stringify(join(folder, 'image.png'))};
  await readImage({ name: file, file });
  const used = JSON.parse(state());
  const result = JSON.stringify({
    unchanged: before === after, before: JSON.parse(before), sum, mapped: used.mapped, threads: used.threads,
  });
  if (isMainThread) console.log(result); else parentPort.postMessage(result);
`;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'import-'));
  await sharp({ create: { width: 2, height: 2, channels: 3, background: 'red' } })
    .png()
    .toFile(join(folder, 'image.png'));
});
afterAll(() => rm(folder, { recursive: true }));

async function run(args: string[], code: string): Promise<Record<string, unknown>> {
  const file = join(folder, `${args.length}.mjs`);
  await writeFile(file, code);
  const { GOMP_SPINCOUNT: _, ...env } = process.env;
  const { stdout } = await promisify(execFile)(process.execPath, [...args, file], { cwd: root, env });
  return JSON.parse(stdout);
}

const expected = {
  unchanged: true,
  before: expect.objectContaining({ mapped: [] }),
  sum: 6,
  mapped: ['ip_adapter.node', 'libtorch_cpu.so'],
  threads: 1,
};

it('the sources load nothing and change nothing at import', async () => {
  expect(await run(['--import', 'tsx'], program('src', '.ts'))).toEqual(expected);
});

it('so does dist/', async () => {
  expect(await run([], program('dist', '.js'))).toEqual(expected);
});

it('and dist/ in a worker thread, with no addon in the main thread', async () => {
  const worker = join(folder, 'worker.mjs');
  await writeFile(worker, program('dist', '.js'));
  const main = `
    import { once } from 'node:events';
    import { Worker } from 'node:worker_threads';
    for (let i = 0; i < 2; i++) {
      const worker = new Worker(${JSON.stringify(worker)});
      const [result] = await once(worker, 'message');
      if (i === 0) console.log(result);
      if ((await once(worker, 'exit'))[0] !== 0) process.exitCode = 1;
    }`;
  expect(await run([], main)).toEqual(expected);
});
