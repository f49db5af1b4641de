import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { tarOf } from '../../test/write-tar.js';
import { DatasetError } from '../base/errors.js';
import { visitTar } from './tar.js';

let dir: string;
let file: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-tar-'));
  file = join(dir, 'a.tar');
});
afterEach(() => rmSync(dir, { recursive: true }));

const MEMBERS = [
  ['1.jpg', 'j'.repeat(700)],
  ['1.txt', 'a dog'],
  ['empty.txt', ''],
  ['full.jpg', 'f'.repeat(1024)],
  [`${'folder/'.repeat(14)}ustar-prefix.txt`, 'prefix'],
  [`${'long'.repeat(60)}.txt`, 'long'],
  ['große-Straße.txt', 'é'],
  ['large.bin', 'x'.repeat(40_000)],
] as const;

/** Names and contents, by the offsets as well as by `read`. */
function contents(): { found: [string, string][]; end: string | null } {
  const bytes = readFileSync(file);
  const found: [string, string][] = [];
  const end = visitTar(file, ({ name, offset, size, read }) => {
    const text = Buffer.from(read()).toString();
    expect(bytes.toString('utf8', offset, offset + size)).toBe(text);
    found.push([name, text]);
  });
  return { found, end };
}

describe('visitTar', () => {
  it('finds what tar-stream has written (ustar and pax)', async () => {
    writeFileSync(file, await tarOf(MEMBERS));
    expect(contents()).toEqual({ found: MEMBERS, end: null });
  });

  it.each(['gnu', 'pax', 'ustar', 'v7', 'oldgnu'])('finds what tar --format=%s has written', (format) => {
    const isShort = ['ustar', 'v7'].includes(format);
    const members = MEMBERS.filter(([name]) => !isShort || name.length < 100);
    mkdirSync(join(dir, 'in', 'folder/'.repeat(14)), { recursive: true });
    for (const [name, content] of members) writeFileSync(join(dir, 'in', name), content);
    execFileSync('ln', ['-s', '1.jpg', join(dir, 'in', 'link.jpg')]);
    const names = [...members.map(([name]) => name), 'link.jpg', 'folder'];
    execFileSync('tar', [
      `--format=${format}`,
      '--no-recursion',
      '-cf',
      file,
      '-C',
      join(dir, 'in'),
      ...names,
    ]);
    expect(contents()).toEqual({ found: members, end: null });
  });

  it('reads sizes beyond 8 GB, which GNU tar and pax write in other ways', () => {
    const size = 9 * 2 ** 30 + 5;
    for (const format of ['gnu', 'pax']) {
      const sparse = join(dir, 'large.bin');
      writeFileSync(sparse, '');
      truncateSync(sparse, size);
      // The headers alone: the file itself is a hole.
      const script = `tar --format=${format} -cf - -C "$0" large.bin | head -c 4096`;
      writeFileSync(file, execFileSync('bash', ['-c', script, dir], { stdio: ['ignore', 'pipe', 'ignore'] }));
      truncateSync(file, size + 8192);
      const sizes: number[] = [];
      visitTar(file, ({ size }) => sizes.push(size));
      expect(sizes).toEqual([size]);
    }
  });

  it('goes on behind the end mark: tars that were joined are one', async () => {
    const [first, second] = [await tarOf(MEMBERS.slice(0, 2)), await tarOf(MEMBERS.slice(2))];
    writeFileSync(file, Buffer.concat([first, Buffer.alloc(9 * 512), second]));
    expect(contents()).toEqual({ found: MEMBERS, end: null });
  });

  it('tells where a file is cut, wherever that is', async () => {
    const whole = await tarOf([
      ['1.txt', 'a'],
      ['2.txt', 'b'.repeat(600)],
    ]);
    // Headers at 0 and 1024, contents at 512 and 1536 … 2136, the end mark from 2560.
    const cases: [length: number, found: number, end: string | null][] = [
      [0, 0, ''],
      [300, 0, ''],
      [512, 0, '1.txt'],
      [513, 1, ''],
      [1024, 1, ''],
      [1100, 1, ''],
      [1600, 1, '2.txt'],
      [2135, 1, '2.txt'],
      [2136, 2, ''],
      [2560, 2, ''],
      [3072, 2, null],
      [whole.length, 2, null],
    ];
    for (const [length, found, end] of cases) {
      writeFileSync(file, whole.subarray(0, length));
      expect([contents().found.length, contents().end], `${length} bytes`).toEqual([found, end]);
    }
  });

  it('names file and place of a header whose checksum is wrong', async () => {
    const whole = await tarOf(MEMBERS);
    whole[1536 + 3]! ^= 1;
    writeFileSync(file, whole);
    expect(() => visitTar(file, () => {})).toThrow(DatasetError);
    expect(() => visitTar(file, () => {})).toThrow(/a\.tar at byte 1536 .* checksum is \d+, not \d+/);
    writeFileSync(file, 'no tar'.repeat(200));
    expect(() => visitTar(file, () => {})).toThrow(/a\.tar at byte 0 /);
  });

  it.each(['-0000000017', 'no number', '77777777777'])(
    'refuses a size of %j, or says that the file is cut',
    async (size) => {
      const whole = await tarOf(MEMBERS);
      whole.write(size.padEnd(12, '\0'), 124, 'latin1');
      whole.write('        ', 148, 'latin1');
      const sum = whole.subarray(0, 512).reduce((total, byte) => total + byte, 0);
      whole.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
      writeFileSync(file, whole);
      if (size === '77777777777') expect(contents()).toEqual({ found: [], end: '1.jpg' });
      else {
        expect(() => visitTar(file, () => {})).toThrow(DatasetError);
        expect(() => visitTar(file, () => {})).toThrow(
          /size of a tar's member in .*a\.tar at byte 0 but received (-15|NaN)/,
        );
      }
    },
  );
});
