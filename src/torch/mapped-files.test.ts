import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { residentOf } from '../../test/resident-pages.js';
import { locateAddon } from '../../tools/build-native.mjs';
import { releasePages, setFileMapping, Tensor } from './index.js';
import { native } from './native.js';

const SIZE = 1 << 20;
let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mapped-'));
  path = join(folder, 'model.bin');
  writeFileSync(path, new Uint8Array(SIZE).fill(1));
});
afterEach(() => rmSync(folder, { recursive: true }));

const map = (): Tensor => new Tensor(native().mapTensors(path, [[0, 0, [SIZE]]])[0]!);

describe('setFileMapping', () => {
  afterEach(() => setFileMapping(true));

  it('makes copies, which a change of the file leaves alone', () => {
    setFileMapping(false);
    const copy = map();
    expect(copy.isMapped).toBe(false);
    writeFileSync(path, new Uint8Array(SIZE));
    expect(copy.toArray().every((value) => value === 1)).toBe(true);
  });
});

describe('releasePages', () => {
  const release = (tensor: Tensor): void => releasePages({ parameters: () => [tensor] });

  it('takes pages out of memory, and their values come back', () => {
    const tensor = map();
    expect(tensor.sum().item()).toBe(SIZE);
    expect(residentOf(path)).toBe(SIZE / 1024);
    release(tensor);
    expect(residentOf(path)).toBe(0);
    expect(tensor.sum().item()).toBe(SIZE);
  });

  it('keeps what was written to', () => {
    const tensor = map();
    tensor.add_(1);
    release(tensor);
    expect(tensor.sum().item()).toBe(2 * SIZE);
  });

  it('keeps what was written through another tensor of the same bytes', () => {
    const entry: [number, number, number[]] = [0, 0, [SIZE]];
    const [written, other] = native()
      .mapTensors(path, [entry, entry])
      .map((handle) => new Tensor(handle)) as [Tensor, Tensor];
    written.add_(1);
    release(other);
    expect(other.sum().item()).toBe(2 * SIZE);
  });

  it('leaves tensors in memory alone', () => {
    const tensor = map().add(1);
    release(tensor);
    expect(tensor.sum().item()).toBe(2 * SIZE);
  });
});

describe('a mapped file that is cut', () => {
  /** Maps a file in a process of its own, runs `then`, and reads all values. */
  const run = (then: string): Promise<{ code: unknown; stderr: string }> => {
    const script = `
      const addon = require(${JSON.stringify(locateAddon().path)});
      const [tensor] = addon.mapTensors(${JSON.stringify(path)}, [[0, 0, [${SIZE}]]]);
      ${then}
      addon.toBytes(tensor);
      const [sum] = addon.findOperator('aten::sum', '');
      addon.call(sum, tensor);`;
    return new Promise((done) =>
      execFile(process.execPath, ['-e', script], (error, _, stderr) =>
        done({ code: error?.code ?? error?.signal ?? 0, stderr }),
      ),
    );
  };

  it('ends the process with words that name it', async () => {
    const { code, stderr } = await run(`require('fs').truncateSync(${JSON.stringify(path)}, 4096);`);
    expect(stderr).toContain(`ip-adapter: the file ${path} was truncated`);
    expect(stderr).toMatch(/resumes from its latest checkpoint/);
    expect(code).toBe(2);
  });

  it('does so where other files are mapped, and one is not any more', async () => {
    const { stderr } = await run(`
      const fs = require('fs');
      for (const name of ['a', 'b']) {
        fs.writeFileSync(${JSON.stringify(folder)} + name, 'abcd');
        const [other] = addon.mapTensors(${JSON.stringify(folder)} + name, [[0, 0, [4]]]);
        if (name === 'a') addon.release([other]);
        fs.rmSync(${JSON.stringify(folder)} + name);
      }
      fs.truncateSync(${JSON.stringify(path)}, 0);`);
    expect(stderr).toContain(`the file ${path} was truncated`);
  });

  it('leaves a bus error of another origin to the system', async () => {
    expect((await run(`process.kill(process.pid, 'SIGBUS'); setTimeout(() => {}, 10000);`)).code).toBe(
      'SIGBUS',
    );
  });
});
