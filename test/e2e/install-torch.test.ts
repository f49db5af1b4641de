/** @file `ip-adapter install-torch` from a local server, and who finds what it has installed. */
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { installTorch } from '../../src/cli/doctor.js';
import { findLibTorch, notFoundMessage } from '../../tools/find-libtorch.mjs';
import { FileServer } from '../file-server.js';
import { sha256, torchArchive } from '../torch-archive.js';
import { ipAdapter, runProgram } from './command.js';

let server: FileServer;
let origin: string;
let root: string;
beforeEach(async () => {
  server = new FileServer();
  origin = await server.start();
  root = mkdtempSync(join(tmpdir(), 'install-torch-'));
});
afterEach(() => {
  server.stop();
  rmSync(root, { recursive: true });
});

const env = (): NodeJS.ProcessEnv => {
  const { LIBTORCH, ...others } = process.env;
  return { ...others, IP_ADAPTER_CACHE: root };
};
const ipAdapterWith = (...args: string[]) =>
  runProgram(process.execPath, [ipAdapter, ...args], { cwd: root, env: env() });
const serve = (name: string, bytes: Buffer): [string, string, string, string] => {
  server.files.set(`/${name}`, bytes);
  return ['--url', `${origin}/${name}`, '--sha256', sha256(bytes)];
};

it.skipIf(process.platform !== 'linux')(
  'installs an archive, which the build then finds before python3’s and the system’s',
  async () => {
    const { exitCode, stdout, stderr } = await ipAdapterWith(
      'install-torch',
      'cpu',
      ...serve('libtorch-shared-with-deps-2.13.0%2Bcpu.zip', torchArchive('libtorch')),
    );
    expect(stderr).toMatch(
      /^Downloading LibTorch cpu: 1 file.*\n(.*\n)*Unpacking .*\nThe next use builds the addon/,
    );
    expect(stdout).toMatch(/^LibTorch 2\.13\.0 \(cpu\) is in .*\/libtorch\/cpu-[0-9a-f]{12}$/);
    expect(exitCode).toBe(0);

    const { libtorch } = findLibTorch(env());
    expect(libtorch?.source).toMatch(/^ip-adapter install-torch \(/);
    expect(libtorch?.lib.startsWith(root)).toBe(true);
    expect(libtorch).toMatchObject({ version: '2.13.0', cuda: false, cxxStandard: 20, cxx11Abi: true });
    const doctor = await ipAdapterWith('doctor');
    expect(doctor.stdout).toMatch(/^ok +LibTorch +2\.13\.0 from ip-adapter install-torch \(/m);

    // LIBTORCH says what a user wants now.
    expect(findLibTorch({ ...env(), LIBTORCH: '/nowhere' })).toMatchObject({
      libtorch: null,
      tried: [{ place: 'env LIBTORCH' }],
    });
    // Who deletes the folder has undone it.
    const [installed = ''] = readdirSync(join(root, 'libtorch')).filter((name) => name.startsWith('cpu-'));
    rmSync(join(root, 'libtorch', installed), { recursive: true });
    const { tried, libtorch: next } = findLibTorch(env());
    expect(next?.source ?? '').not.toMatch(/install-torch/);
    expect(tried[1]?.why).toBe(`${join(root, 'libtorch', installed)} has been deleted`);
  },
);

it.skipIf(process.platform !== 'linux')(
  'refuses an archive for another processor, and one without LibTorch, and says what is missing',
  async () => {
    const other = process.arch === 'x64' ? 'arm64' : 'x64';
    const wrong = await ipAdapterWith(
      'install-torch',
      'cpu',
      ...serve('a.whl', torchArchive('torch', other)),
    );
    expect(wrong.stderr).toMatch(/for another processor than/);
    const none = await ipAdapterWith('install-torch', 'cpu', ...serve('b.whl', torchArchive('numpy')));
    expect(none.stderr).toMatch(
      /ConfigError: .*do not have a LibTorch for this machine: no torch\/include\/ATen/,
    );
    for (const { exitCode } of [wrong, none]) expect(exitCode).toBe(2);
    expect(readdirSync(join(root, 'libtorch'))).toEqual(['downloads']);
  },
);

it('stops at a signal, and the same command continues', async () => {
  const archive = serve('torch.whl', torchArchive());
  const args = [ipAdapter, 'install-torch', 'cpu', ...archive];
  const downloads = (): string[] => {
    const folder = join(root, 'libtorch/downloads');
    return existsSync(folder) ? readdirSync(folder).map((name) => join(folder, name)) : [];
  };
  let isPolling = false;
  server.delay = 20;
  const { exitCode, stderr } = await runProgram(process.execPath, args, {
    cwd: root,
    env: env(),
    onError: (text, child) => {
      if (!/Downloading/.test(text) || isPolling) return;
      isPolling = true;
      const poll = setInterval(() => {
        if (!downloads().some((file) => (statSync(file, { throwIfNoEntry: false })?.size ?? 0) > 0)) return;
        clearInterval(poll);
        child.kill('SIGINT');
      }, 20);
    },
  });
  expect(stderr).toMatch(/Stopped\. The same command continues the download\.$/);
  expect(exitCode).toBe(130);
  server.delay = 0;
  server.requests.length = 0;
  expect((await ipAdapterWith('install-torch', 'cpu', ...archive)).exitCode).toBe(0);
  expect(server.requests.at(-1)).toMatch(/^GET \/torch\.whl bytes=[1-9]\d*-$/);
});

it('refuses arguments that cannot be right, each with the reason', async () => {
  const hex = 'a'.repeat(64);
  for (const [args, message] of [
    [['cu000'], /cpu.* can be installed by name but not cu000; give its archive by --url/],
    [['../x'], /The backend is \.\.\/x; it must be cpu/],
    [['cpu', '--url', 'http://127.0.0.1/a.zip'], /--url is given 1 times and --sha256 0 times/],
    [['cpu', '--url', '/a.zip', '--sha256', hex], /--url is \/a\.zip; it must be an address/],
    [['cpu', '--url', 'http://127.0.0.1/a.zip', '--sha256', 'abc'], /--sha256 is abc; it must have 64/],
  ] as const) {
    const { exitCode, stderr } = await ipAdapterWith('install-torch', ...args);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
  }
  expect(readdirSync(root)).toEqual([]);
});

it('is what doctor and the build propose where there is no LibTorch', () => {
  expect(installTorch(false, 'linux', 'x64')).toBe('ip-adapter install-torch cpu');
  expect(installTorch(true, 'linux', 'x64')).toBe('ip-adapter install-torch cu130');
  expect(installTorch(true, 'darwin', 'x64')).toBe('python3 -m pip install torch');
  expect(notFoundMessage([])).toMatch(/npx ip-adapter install-torch cpu/);
});
