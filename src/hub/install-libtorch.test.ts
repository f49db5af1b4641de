import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { craftZip } from '../../test/craft-zip.js';
import { FileServer } from '../../test/file-server.js';
import { library, sha256, torchArchive, torchEntries } from '../../test/torch-archive.js';
import { installLibTorch, type TorchInstallation } from './install-libtorch.js';
import { builtInTorch, proposedTorch } from './torch-archives.js';

let server: FileServer;
let origin: string;
let root: string;
let folder: string;
let messages: string[];
beforeEach(async () => {
  server = new FileServer();
  origin = await server.start();
  root = mkdtempSync(join(tmpdir(), 'install-'));
  folder = join(root, 'cache', 'libtorch');
  messages = [];
});
afterEach(() => {
  server.stop();
  rmSync(root, { recursive: true });
});

const archive = torchArchive();
const sum = sha256(archive);
const serve = (name: string, bytes: Buffer): { url: string; sha256: string } => {
  server.files.set(`/${name}`, bytes);
  return { url: `${origin}/${name}`, sha256: sha256(bytes) };
};
const install = (options: Partial<TorchInstallation> = {}): Promise<string> =>
  installLibTorch({
    folder,
    backend: 'cpu',
    archives: [serve('torch-2.13.0%2Bcpu.whl', archive)],
    check: (unpacked) => {
      if (!existsSync(join(unpacked, 'torch/lib/libtorch_cpu.so'))) throw new Error('no libtorch_cpu.so');
    },
    onMessage: (message) => messages.push(message),
    pauseMs: 1,
    ...options,
  });
const files = (inside: string): string[] =>
  (readdirSync(join(folder, inside), { recursive: true, withFileTypes: true }) as import('node:fs').Dirent[])
    .filter((entry) => entry.isFile())
    .map((entry) => entry.name)
    .sort();
const current = (): string => readFileSync(join(folder, 'current'), 'utf8');
/** How much of a download there is, while it runs or after it. */
const bytesOf = (sum: string): number =>
  existsSync(join(folder, 'downloads'))
    ? files('downloads')
        .filter((name) => name.startsWith(sum))
        .reduce(
          (bytes, name) =>
            bytes + (statSync(join(folder, 'downloads', name), { throwIfNoEntry: false })?.size ?? 0),
          0,
        )
    : 0;
/** What was asked for, without the questions for the size. */
const ranges = (): string[] => server.requests.filter((request) => request.startsWith('GET'));

describe('an installation', () => {
  it('has the libraries and headers without those for Python, keeps no archive, and is the current one', async () => {
    const target = await install();
    expect(target).toBe(join(folder, `cpu-${sum.slice(0, 12)}`));
    expect(files(target.slice(folder.length + 1))).toEqual(
      ['ATen.h', 'libc10.so', 'libgfortran.so.5', 'libgomp.so.1', 'libtorch_cpu.so', 'version.h'].sort(),
    );
    expect(readFileSync(join(target, 'torch/lib/libtorch_cpu.so')).equals(library(2_000_000))).toBe(true);
    expect(current()).toBe(`cpu-${sum.slice(0, 12)}\n`);
    expect(files('downloads')).toEqual([]);
    expect(messages[0]).toMatch(/^Downloading LibTorch cpu: 1 file, /);
  });

  it('is made once: again it downloads nothing, and only becomes the current one', async () => {
    await install();
    const other = await install({ backend: 'cu130' });
    expect(current()).toMatch(/^cu130-/);
    const requests = server.requests.length;
    expect(await install()).not.toBe(other);
    expect(current()).toMatch(/^cpu-/);
    expect(server.requests.length).toBe(requests);
  });

  it('is made again where files have been deleted', async () => {
    const target = await install();
    rmSync(join(target, 'torch/lib/libtorch_cpu.so'));
    await install();
    expect(existsSync(join(target, 'torch/lib/libtorch_cpu.so'))).toBe(true);
  });

  it('puts the wheels of CUDA’s libraries beside torch', async () => {
    const cuda = craftZip([
      { name: 'nvidia/cu13/lib/libcublas.so.13', data: library(1000) },
      { name: 'nvidia/cu13/lib/libcublas_static.a', data: 'x' },
      { name: 'nvidia/cu13/include/crt/host_config.h', data: '//' },
      { name: 'nvidia/cu13/bin/ptxas', data: 'x' },
    ]);
    const target = await install({ archives: [serve('torch.whl', archive), serve('cublas.whl', cuda)] });
    expect(files(`${target.slice(folder.length + 1)}/nvidia`)).toEqual(['host_config.h', 'libcublas.so.13']);
  });
});

describe('a download', () => {
  it('goes on where the connection was cut, and where an earlier command was stopped', async () => {
    server.cuts.push(40_000, 0, 70_000);
    await install();
    expect(ranges().length).toBe(4);
    expect(ranges()[1]).toMatch(/bytes=[1-9]\d+-$/);

    const second = serve('second.zip', torchArchive('libtorch'));
    const abort = new AbortController();
    server.delay = 10;
    const stopped = install({ archives: [second], signal: abort.signal, check: () => {} });
    const poll = setInterval(() => {
      if (bytesOf(second.sha256) > 0) abort.abort(new Error('stop'));
    }, 5);
    await expect(stopped).rejects.toThrow('stop');
    clearInterval(poll);
    const [kept = ''] = files('downloads');
    expect(kept).toBe(`${second.sha256}.incomplete`);
    const bytes = readFileSync(join(folder, 'downloads', kept)).length;
    expect(bytes).toBeGreaterThan(0);
    server.delay = 0;
    server.requests.length = 0;
    await install({ archives: [second], check: () => {} });
    expect(ranges()).toEqual([`GET /second.zip bytes=${bytes}-`]);
  });

  it('of another SHA-256 is refused and deleted, and nothing is installed', async () => {
    const { url } = serve('torch.whl', archive);
    const wrong = 'a'.repeat(64);
    await expect(install({ archives: [{ url, sha256: wrong }] })).rejects.toThrow(
      new RegExp(
        `LibTorch cpu was not installed: Expected .* with hash ${wrong} for torch.whl .* but received .*${sum}`,
      ),
    );
    expect(readdirSync(folder)).toEqual(['downloads']);
    expect(files('downloads')).toEqual([]);
  });

  it('that the server refuses, or does not have, is an error with its address', async () => {
    const { url } = serve('torch.whl', archive);
    server.refused.set('/torch.whl', 403);
    await expect(install({ archives: [{ url, sha256: sum }] })).rejects.toThrow(
      /torch\.whl but the server answered HTTP 403/,
    );
    await expect(install({ archives: [{ url: `${origin}/gone.zip`, sha256: sum }] })).rejects.toThrow(
      /not installed: Expected http.*gone\.zip but the server answered HTTP 404/,
    );
    await expect(
      install({ archives: [{ url: 'http://127.0.0.1:9999/x.zip', sha256: sum }] }),
    ).rejects.toThrow(/127\.0\.0\.1:9999\/x\.zip but its server cannot be reached: .*ECONNREFUSED/);
  });

  it('of a server without ranges skips what there is', async () => {
    server.hasRanges = false;
    server.cuts.push(50_000);
    await install();
    expect(current()).toMatch(/^cpu-/);
  });
});

describe('an archive', () => {
  const hostile = async (entry: Parameters<typeof craftZip>[0][number]): Promise<void> => {
    await install();
    const bytes = craftZip([...torchEntries(), entry]);
    await expect(install({ archives: [serve('bad.whl', bytes)] })).rejects.toThrow(
      /not installed: .* is not a usable zip archive/,
    );
    // The earlier one stays in use.
    expect(current()).toBe(`cpu-${sum.slice(0, 12)}\n`);
    expect(readdirSync(folder).sort()).toEqual([`cpu-${sum.slice(0, 12)}`, 'current', 'downloads']);
    expect(readdirSync(root)).toEqual(['cache']);
  };

  it('with a path out of the folder is refused', () =>
    hostile({ name: 'torch/lib/../../../../../evil.so', data: 'x' }));
  it('with a link is refused', () => hostile({ name: 'torch/lib/libevil.so', data: '/etc', mode: 0o120777 }));
  it('that is a bomb is refused', () =>
    hostile({ name: 'torch/lib/libbig.so', data: Buffer.alloc(2e7), size: 2_100_000 }));

  it('without a LibTorch is refused with what is missing', async () => {
    const bytes = craftZip([{ name: 'numpy/__init__.py', data: 'x' }]);
    await expect(install({ archives: [serve('numpy.whl', bytes)] })).rejects.toThrow('no libtorch_cpu.so');
    expect(existsSync(join(folder, 'current'))).toBe(false);
  });
});

it('removes what a killed process of this machine has left, and nothing of one that runs', async () => {
  const { pid } = spawnSync('true');
  const dead = join(folder, `cpu-aaaaaaaaaaaa.${hostname()}.${pid}.partial`);
  const alive = join(folder, `cpu-aaaaaaaaaaaa.${hostname()}.1.partial`);
  const remote = join(folder, `cpu-aaaaaaaaaaaa.elsewhere.${pid}.partial`);
  for (const path of [dead, alive, remote]) {
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, 'x'), '');
  }
  await install();
  expect([dead, alive, remote].map((path) => existsSync(path))).toEqual([false, true, true]);
});

it('leaves no half installation on a full disk', async (context) => {
  mkdirSync(folder, { recursive: true });
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=3500k', 'tmpfs', folder]).status !== 0)
    return context.skip('no right to mount');
  try {
    await expect(install()).rejects.toThrow(
      /Expected .* of free space to unpack LibTorch in .*; free some space/,
    );
    expect(readdirSync(folder)).toEqual(['downloads']);
    // The download is kept.
    expect(files('downloads')).toEqual([sum]);
  } finally {
    spawnSync('umount', [folder]);
  }
});

it('built-in archives are wheels with different SHA-256, and one is proposed for each platform that has any', () => {
  const all = [
    ['linux', 'x64'],
    ['linux', 'arm64'],
    ['darwin', 'arm64'],
  ].flatMap(([platform, arch]) => Object.values(builtInTorch(platform, arch)).flat());
  expect(new Set(all.map((one) => one.sha256)).size).toBe(all.length);
  for (const one of all) {
    expect(one.sha256).toMatch(/^[0-9a-f]{64}$/);
    expect(one.url).toMatch(/^https:\/\/[^/]+\/.*\.whl$/);
  }
  expect(proposedTorch(false, 'linux', 'x64')).toBe('cpu');
  expect(proposedTorch(true, 'linux', 'arm64')).toBe('cu130');
  expect(proposedTorch(true, 'darwin', 'arm64')).toBe('cpu');
  expect(proposedTorch(true, 'freebsd', 'x64')).toBeUndefined();
});
