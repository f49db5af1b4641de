import { describe, expect, it } from 'vitest';
import { PackedList } from './packed-list.js';

describe('PackedList', () => {
  it('gives back every value at its place, in full blocks and in the rest', () => {
    for (const count of [0, 1, 63, 64, 65, 128, 200]) {
      const list = new PackedList<[number, string]>();
      for (let i = 0; i < count; i++) list.push([i, `line\n"${'ü'.repeat(i)}"`]);
      expect(list.length).toBe(count);
      for (let i = 0; i < count; i++) expect(list.at(i)).toEqual([i, `line\n"${'ü'.repeat(i)}"`]);
    }
  });

  it('holds a million rows of a WebDataset in less than 200 MB', () => {
    const memory = (): number => {
      const { heapUsed, arrayBuffers } = process.memoryUsage();
      return heapUsed + arrayBuffers;
    };
    const before = memory();
    const list = new PackedList<unknown>();
    const caption = 'a photograph of a brown dog that runs along a beach in the evening';
    for (let i = 0; i < 1_000_000; i++)
      list.push([i >> 14, [`${String(i).padStart(9, '0')}.jpg`, i * 100_000, 98_304], null, caption]);
    expect(memory() - before).toBeLessThan(200e6);
    expect(list.at(999_999)).toEqual([61, ['000999999.jpg', 99_999_900_000, 98_304], null, caption]);
  });
});
