import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { CheckpointError } from '../base/errors.js';
import { downloadBlob } from './blob.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-blob-'));
});
afterEach(() => rmSync(root, { recursive: true }));

const bytes = Buffer.from('0123456789'.repeat(3));
const etag = createHash('sha256').update(bytes).digest('hex');
const digest = { of: 'file', hex: etag } as const;
const file = { path: 'a.bin', source: 'the Hub', size: bytes.length, digest };
const download = (read: (from: number) => AsyncIterable<Uint8Array>) => {
  const seen: [number, number][] = [];
  const onBytes = (there: number, isNew: number) => seen.push([there, isNew]);
  const ended = downloadBlob(join(root, etag), file, {
    read: async (from) => read(from),
    onBytes,
    onWait: () => {},
    pauseMs: 0,
  });
  return { ended, seen };
};

describe('downloadBlob', () => {
  it('gives up after connections without bytes, and keeps what was received', async () => {
    let connections = 0;
    const { ended, seen } = download(async function* (from) {
      connections++;
      if (from === 0) yield bytes.subarray(0, 12);
      throw new TypeError('fetch failed', { cause: new Error('socket hang up') });
    });
    await expect(ended).rejects.toThrow(CheckpointError);
    await expect(ended).rejects.toThrow(
      /Expected 30 bytes of a\.bin .* broke after 12: socket hang up; start again to continue from there/,
    );
    // The first connection received bytes, the seven after it none.
    expect(connections).toBe(1 + 7);
    expect(seen).toEqual([[12, 12]]);
    expect(readdirSync(root)).toEqual([`${etag}.incomplete`]);
    expect(readFileSync(join(root, `${etag}.incomplete`), 'utf8')).toBe('012345678901');
  });

  it('does not give up while bytes are received, although connections end early', async () => {
    const { ended, seen } = download(async function* (from) {
      yield bytes.subarray(from, from + 2);
    });
    await ended;
    expect(seen.map(([there]) => there)).toEqual(Array.from({ length: 15 }, (_, i) => 2 * (i + 1)));
    expect(readFileSync(join(root, etag)).equals(bytes)).toBe(true);
    expect(readdirSync(root)).toEqual([etag]);
  });

  it('says at once that the disk is full, and keeps what there was room for', async (context) => {
    if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=4k', 'tmpfs', root]).status !== 0)
      return context.skip('no right to mount');
    try {
      let connections = 0;
      const ended = downloadBlob(
        join(root, 'large'),
        { path: 'large.bin', source: 'the Hub', size: 8192, digest: null },
        {
          read: async (from) => {
            connections++;
            return (async function* () {
              for (let at = from; at < 8192; at += 1024) yield Buffer.alloc(1024);
            })();
          },
          onBytes: () => {},
          onWait: () => {},
          pauseMs: 0,
        },
      );
      await expect(ended).rejects.toThrow(/large\..*could not be written: ENOSPC.*make room on its disk/);
      expect(connections).toBe(1);
      expect(readdirSync(root)).toEqual(['large.incomplete']);
    } finally {
      spawnSync('umount', [root]);
    }
  });
});
