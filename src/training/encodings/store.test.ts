import {
  existsSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { arange, memoryStats, tidy } from '../../torch/index.js';
import { EncodingStore } from './store.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-store-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Adds rows [n, 3] with the keys k<from> … */
function add(store: EncodingStore, from: number, n: number): void {
  const keys = Array.from({ length: n }, (_, i) => `k${from + i}`);
  store.add(
    keys,
    tidy(() => ({ rows: arange(from * 3, (from + n) * 3).reshape(n, 3) })),
  );
}

describe('EncodingStore', () => {
  it('gives back rows by their keys, in this run and the next', () => {
    using store = new EncodingStore(folder, 'float32');
    add(store, 0, 4);
    add(store, 4, 2);
    expect([store.has('k5'), store.has('k6')]).toEqual([true, false]);
    store.flush();
    using next = new EncodingStore(folder, 'float32');
    for (const opened of [store, next])
      expect(opened.get(['k5', 'k0', 'k5']).rows.toNumbers()).toEqual([15, 16, 17, 0, 1, 2, 15, 16, 17]);
    expect(() => next.get(['k6'])).toThrow(/no entry k6/);
  });

  it('keeps a pooled embedding beside the rows', () => {
    using store = new EncodingStore(folder, 'float32');
    store.add(['a', 'b'], { rows: arange(0, 4).reshape(2, 2), pooled: arange(4, 10).reshape(2, 3) });
    store.flush();
    using next = new EncodingStore(folder, 'float32');
    const { rows, pooled } = next.get(['b', 'a']);
    expect([rows.toNumbers(), pooled?.toNumbers()]).toEqual([
      [2, 3, 0, 1],
      [7, 8, 9, 4, 5, 6],
    ]);
  });

  it('has, after a kill, the shards that were complete', () => {
    using killed = new EncodingStore(folder, 'float32');
    for (let from = 0; from < 300; from += 20) add(killed, from, 20);
    writeFileSync(join(folder, 'half.safetensors.partial'), 'written when it was killed');
    using next = new EncodingStore(folder, 'float32');
    expect([next.has('k259'), next.has('k260')]).toEqual([true, false]);
  });

  it('removes damaged shards and old halves of files, and keeps the rest', () => {
    {
      using store = new EncodingStore(folder, 'float32');
      add(store, 0, 3);
      store.flush();
      add(store, 3, 3);
      store.flush();
    }
    const [damaged = ''] = readdirSync(folder);
    truncateSync(join(folder, damaged), 120);
    writeFileSync(join(folder, 'other.safetensors'), 'no safetensors');
    const [old, young] = ['old', 'young'].map((name) => join(folder, `${name}.safetensors.partial`)) as [
      string,
      string,
    ];
    for (const file of [old, young]) writeFileSync(file, '');
    utimesSync(old, 0, 0);
    const told: string[] = [];
    using store = new EncodingStore(folder, 'float32', (message) => told.push(message));
    expect(told.join()).toMatch(/Removed .*safetensors, which is damaged.*Removed .*, which is damaged/);
    expect([store.has('k0'), store.has('k3')].sort()).toEqual([false, true]);
    expect(readdirSync(folder)).toHaveLength(2);
    expect([existsSync(old), existsSync(young)]).toEqual([false, true]);
  });

  it('keeps half precision where asked, and no tensor when done', () => {
    const before = memoryStats().liveTensors;
    {
      using store = new EncodingStore(folder, 'float16');
      add(store, 0, 300);
      add(store, 300, 2);
      const { rows } = store.get(['k0', 'k1']);
      expect([rows.dtype, rows.shape]).toEqual(['float16', [2, 3]]);
      rows.dispose();
    }
    expect(memoryStats().liveTensors).toBe(before);
  });
});
