/** @file The package as others install it: packed, unpacked in a foreign project, checked, imported and used. */
import { execFile } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { makeWorld, type World } from './world.js';

const run = promisify(execFile);
const root = join(import.meta.dirname, '../..');
const tool = (path: string): string => join(root, 'node_modules', path);
const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));

// npm, tsc and attw take long where other work shares the cores.
vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

let folder: string;
let project: string;
let tarball: string;
let installed: string;
let world: World;

beforeAll(async () => {
  world = await makeWorld();
  folder = mkdtempSync(join(tmpdir(), 'package-'));
  project = join(folder, 'my project');
  installed = join(project, 'node_modules/ip-adapter');
  mkdirSync(installed, { recursive: true });
  writeFileSync(join(project, 'package.json'), JSON.stringify({ type: 'module' }));
  await run('npm', ['pack', '--ignore-scripts', '--pack-destination', folder], { cwd: root });
  tarball = join(folder, readdirSync(folder).find((file) => file.endsWith('.tgz')) as string);
  await run('tar', ['xzf', tarball, '--strip-components=1', '-C', installed]);
  // What npm would download is the checkout's. Development's packages are not there.
  for (const name of Object.keys(manifest.dependencies)) {
    const link = join(project, 'node_modules', name);
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(tool(name), link);
  }
});
afterAll(() => {
  world.remove();
  rmSync(folder, { recursive: true });
});

it('holds no tests, no source maps, and all that it takes to build the addon', () => {
  const files = readdirSync(installed, { recursive: true, encoding: 'utf8' });
  expect(files.filter((file) => /\.test\.|\.map$|(^|\/)test\//.test(file))).toEqual([]);
  expect(files).toEqual(
    expect.arrayContaining([
      'dist/index.d.ts',
      'native/binding/addon.cc',
      'native/kernels/kernels.h',
      'tools/build-native.mjs',
    ]),
  );
});

it('passes publint and Are the Types Wrong', async () => {
  await run(process.execPath, [tool('publint/src/cli.js'), 'run', tarball, '--strict'], { cwd: root });
  const attw = [tool('@arethetypeswrong/cli/dist/index.js'), tarball, '--profile', 'esm-only'];
  await run(process.execPath, [...attw, '--no-definitely-typed'], { cwd: root });
});

it('has types that compile in a strict project without types of Node', async () => {
  const options = { strict: true, lib: ['es2022'], target: 'es2022', module: 'nodenext', noEmit: true };
  writeFileSync(
    join(project, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, files: ['use.ts'] }),
  );
  writeFileSync(
    join(project, 'use.ts'),
    `import { IPAdapterPipeline, train, type TrainOptions } from 'ip-adapter';
     export const start = (options: TrainOptions) => train(options);
     export type Pipeline = IPAdapterPipeline;`,
  );
  await run(process.execPath, [tool('typescript/bin/tsc'), '-p', project]);
});

it('trains in a folder with a space in its path, and its command runs there, without building the addon again', async () => {
  const options = { ...world.optionsFor('out'), maxSteps: 2, batchSize: 3 };
  writeFileSync(
    join(project, 'train.mjs'),
    `import { train } from 'ip-adapter';
     const { step } = await train(${JSON.stringify(options)});
     console.log('steps', step);`,
  );
  const { stdout, stderr } = await run(process.execPath, ['train.mjs'], { cwd: project });
  expect(stdout).toContain('steps 2');
  expect(stderr).not.toContain('building');
  const help = await run(process.execPath, [join(installed, 'dist/cli/ip-adapter.cjs'), 'doctor'], {
    cwd: project,
  });
  expect(help.stdout).toMatch(/^ok +addon/m);
});
