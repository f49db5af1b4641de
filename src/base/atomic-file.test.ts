import type * as fs from 'node:fs';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { writeFileAtomically } from './atomic-file.js';

/** A system that takes at most so many bytes in a write. */
const system = vi.hoisted(() => ({ takes: Number.POSITIVE_INFINITY }));
vi.mock('node:fs', async (original) => {
  const real = await original<typeof fs>();
  const writeSync = (file: number, bytes: Uint8Array, offset: number, length: number): number =>
    real.writeSync(file, bytes, offset, Math.min(length, system.takes));
  return { ...real, writeSync };
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-atomic-'));
});
afterEach(() => {
  system.takes = Number.POSITIVE_INFINITY;
  rmSync(folder, { recursive: true });
});

it('writes all, however little the system takes at a time', () => {
  system.takes = 3;
  const file = join(folder, 'file');
  writeFileAtomically(file, (append) => {
    append(Buffer.from('0123456789'));
    append(Buffer.from('abc'));
  });
  expect(readFileSync(file, 'utf8')).toBe('0123456789abc');
});

it('changes nothing where it fails, and names the file and a remedy', () => {
  const file = join(folder, 'file');
  writeFileSync(file, 'before');
  const fail = () =>
    writeFileAtomically(file, () => {
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), {
        code: 'ENOSPC',
        syscall: 'write',
      });
    });
  expect(fail).toThrow(
    `ENOSPC: no space left on device, write '${file}': make room on its disk, or give another folder`,
  );
  expect(readdirSync(folder)).toEqual(['file']);
  expect(readFileSync(file, 'utf8')).toBe('before');
});

it('removes its own file where the rename fails', () => {
  const file = join(folder, 'file');
  mkdirSync(join(file, 'inside'), { recursive: true });
  expect(() => writeFileAtomically(file, () => {})).toThrow(/EISDIR|ENOTEMPTY/);
  expect(readdirSync(folder)).toEqual(['file']);
});
