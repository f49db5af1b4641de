import { execFileSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { type CraftedEntry, craftZip } from '../../test/craft-zip.js';
import { type UnzipOptions, unzip } from './unzip.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'unzip-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const large = Buffer.concat([randomBytes(1_500_000), Buffer.alloc(3_000_000, 'x')]);
const folder = (): string => join(root, 'inside', 'out');

function unpack(entries: readonly CraftedEntry[], options: Partial<UnzipOptions> = {}): Promise<number> {
  const archive = join(root, 'a.zip');
  writeFileSync(archive, craftZip(entries));
  return unzip(archive, folder(), { isWanted: () => true, maxBytes: 10_000_000, ...options });
}

it('writes the wanted entries, stored or deflated, small or large, and creates their folders', async () => {
  const entries = [
    { name: 'lib/', isStored: true },
    { name: 'lib/large.so', data: large },
    { name: 'lib/stored.so', data: large, isStored: true },
    { name: 'include/deep/er/small.h', data: '#pragma once\n' },
    { name: 'include/empty.h' },
    { name: 'bin/tool', data: 'no' },
  ];
  let announced = 0;
  const count = await unpack(entries, {
    isWanted: (name) => !name.startsWith('bin/'),
    onSize: (bytes) => {
      announced = bytes;
      expect(existsSync(folder())).toBe(false);
    },
  });
  expect(count).toBe(4);
  expect(announced).toBe(2 * large.length + 13);
  expect(readFileSync(join(folder(), 'lib/large.so')).equals(large)).toBe(true);
  expect(readFileSync(join(folder(), 'lib/stored.so')).equals(large)).toBe(true);
  expect(readFileSync(join(folder(), 'include/deep/er/small.h'), 'utf8')).toBe('#pragma once\n');
  expect(statSync(join(folder(), 'include/empty.h')).size).toBe(0);
  expect(readdirSync(folder()).sort()).toEqual(['include', 'lib']);
});

it('reads what Python’s zipfile writes', async () => {
  const archive = join(root, 'python.zip');
  writeFileSync(join(root, 'large.bin'), large);
  execFileSync('python3', ['-m', 'zipfile', '-c', archive, join(root, 'large.bin')]);
  await unzip(archive, folder(), { isWanted: () => true, maxBytes: large.length });
  expect(readFileSync(join(folder(), 'large.bin')).equals(large)).toBe(true);
});

it.each([
  '../escape',
  'lib/../../escape',
  '/tmp/escape',
  'C:/escape',
  'lib\\..\\..\\escape',
  'lib//x',
  './x',
  'lib/..',
  'x\0y',
])('refuses the archive for the name %j, wanted or not, before anything is written', async (name) => {
  for (const isWanted of [() => true, (one: string) => one === 'lib/good.so'])
    await expect(
      unpack(
        [
          { name: 'lib/good.so', data: 'x' },
          { name, data: 'evil' },
        ],
        { isWanted },
      ),
    ).rejects.toThrow(
      /a\.zip is not a usable zip archive: its entry .* would be written outside of its folder/,
    );
  expect(readdirSync(root)).toEqual(['a.zip']);
});

it('refuses links', async () => {
  const entries = [
    { name: 'lib', data: '/etc', mode: 0o120777 },
    { name: 'lib/passwd', data: 'x' },
  ];
  await expect(unpack(entries)).rejects.toThrow(/its entry "lib" is a link/);
  expect(readdirSync(root)).toEqual(['a.zip']);
});

it('writes no more than it may: the sum of the sizes, and what an entry says of itself', async () => {
  const zeros = Buffer.alloc(5_000_000);
  await expect(unpack([{ name: 'a', data: zeros }], { maxBytes: 4_999_999 })).rejects.toThrow(
    /it unpacks to 5000000 bytes, more than the 4999999 that are allowed/,
  );
  // The directory says less than there is: as a small entry, and as one that is read in a stream.
  await expect(unpack([{ name: 'b', data: zeros, size: 1000 }])).rejects.toThrow(
    /"b" does not match its size/,
  );
  await expect(unpack([{ name: 'c', data: zeros, size: 2_000_000 }])).rejects.toThrow(/"c" does not match/);
  expect(statSync(join(folder(), 'c')).size).toBeLessThanOrEqual(2_000_000);
  // More than deflate can hold.
  await expect(unpack([{ name: 'd', data: 'x', size: 9_000_000 }])).rejects.toThrow(
    /"d" cannot have 9000000 bytes in 3/,
  );
});

it('refuses damaged entries, and two of one name', async () => {
  await expect(unpack([{ name: 'a', data: 'x', crc: 1 }])).rejects.toThrow(/"a" does not match/);
  await expect(unpack([{ name: 'b', data: large, crc: 1 }])).rejects.toThrow(/"b" does not match/);
  const bytes = craftZip([{ name: 'c', data: large }]);
  bytes.fill(0xff, 100, 5000);
  writeFileSync(join(root, 'bad.zip'), bytes);
  const all = { isWanted: () => true, maxBytes: 1e9 };
  await expect(unzip(join(root, 'bad.zip'), folder(), all)).rejects.toThrow(/"c" does not match/);
  await expect(unpack(Array.from({ length: 2 }, () => ({ name: 'same', data: 'x' })))).rejects.toThrow(
    /twice/,
  );
});

it('overwrites nothing, and stops when it is aborted', async () => {
  await unpack([{ name: 'a', data: 'first' }]);
  await expect(unpack([{ name: 'a', data: 'second' }])).rejects.toThrow(/EEXIST/);
  expect(readFileSync(join(folder(), 'a'), 'utf8')).toBe('first');
  const reason = new Error('stop');
  await expect(unpack([{ name: 'b', data: large }], { signal: AbortSignal.abort(reason) })).rejects.toBe(
    reason,
  );
  expect(existsSync(join(folder(), 'b'))).toBe(false);
});
