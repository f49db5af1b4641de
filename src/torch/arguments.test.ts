/** @file The addon refuses wrong arguments in words that name them: none is cut, wrapped or taken for another. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ConfigError } from '../base/errors.js';
import { Generator, setNumThreads, tuneCuda, zeros } from './index.js';
import { native } from './native.js';

const notIntegers = [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY, 1e30, -1e30, 0.5];
const notSizes = [...notIntegers, -1];

const folder = mkdtempSync(join(tmpdir(), 'arguments-'));
afterAll(() => rmSync(folder, { recursive: true }));

describe('the addon', () => {
  it.each(notIntegers)('takes no %s for an integer of an operator', (number) => {
    expect(() => zeros([2]).sum([number])).toThrow(
      /Expected an integer for argument 'dim' but received the number/,
    );
    expect(() => zeros([number])).toThrow(/Expected an integer for argument 'size'/);
    expect(() => zeros([2]).select(0, number)).toThrow(/argument 'index'/);
  });

  it('takes infinite numbers where an operator takes real ones', () => {
    expect(zeros([1]).add(Number.POSITIVE_INFINITY).item()).toBe(Number.POSITIVE_INFINITY);
    expect(zeros([1]).add(1e30).item()).toBeCloseTo(1e30, -24);
  });

  it.each(notSizes)(
    'takes no %s as a seed, a cache limit, a memory limit, or a number of threads',
    (number) => {
      expect(() => new Generator('cpu', number)).toThrow(
        /Expected the seed to be an integer from 0 to 9007199254740991/,
      );
      expect(() => native().setCpuCacheLimit(number)).toThrow(
        /Expected the limit of kept memory to be an integer/,
      );
      expect(() => native().setMemoryLimit(number, '', '')).toThrow(
        /Expected the memory limit to be an integer/,
      );
      expect(() => native().setNumThreads(number)).toThrow(
        /Expected the number of threads to be an integer from 1/,
      );
      expect(() => setNumThreads(number)).toThrow(ConfigError);
    },
  );

  it('takes no number of threads that no machine has', () => {
    expect(() => setNumThreads(100_000_000)).toThrow(
      /--threads is 100000000; it must be an integer from 1 to 1024/,
    );
    expect(() => native().setNumThreads(0)).toThrow(/from 1 to 1024 but received the number 0/);
  });

  it.each([...notSizes, 8, 9, 10, 12, 13, 14, 16])('takes no %s as the code of a dtype', (code) => {
    expect(() => native().fromBytes(new Uint8Array(8), code, [8])).toThrow(/Expected the dtype code to be/);
  });

  it('takes neither another typed array as bytes, nor another value as a shape', () => {
    expect(() => native().fromBytes(new Float32Array(2) as never, 0, [2])).toThrow(
      /Expected the values to be a Uint8Array/,
    );
    for (const size of notSizes)
      expect(() => native().fromBytes(new Uint8Array(2), 0, [size])).toThrow(/Expected a size of the shape/);
    expect(() => native().fromBytes(new Uint8Array(2), 0, 2 as never)).toThrow(
      /Expected the shape to be an array/,
    );
  });

  it('takes no other place in a file, and leaves no tensor behind where a later one is wrong', () => {
    const path = join(folder, 'eight-bytes');
    writeFileSync(path, new Uint8Array(8));
    const live = native().liveTensors();
    for (const number of notSizes) {
      expect(() =>
        native().mapTensors(path, [
          [0, 0, [8]],
          [number, 0, [1]],
        ]),
      ).toThrow(/Expected the offset of a tensor/);
      expect(() =>
        native().mapTensors(path, [
          [0, 0, [8]],
          [0, 0, [number]],
        ]),
      ).toThrow(/Expected a size of the shape/);
      expect(() =>
        native().mapTensors(path, [
          [0, 0, [8]],
          [0, number, [1]],
        ]),
      ).toThrow(/Expected the dtype code/);
    }
    expect(() =>
      native().mapTensors(path, [
        [0, 0, [8]],
        [4, 0, [5]],
      ]),
    ).toThrow(/ends before its tensor 1/);
    expect(() => native().mapTensors(folder, [[0, 0, [1]]])).toThrow(/not a regular file/);
    expect(native().liveTensors()).toBe(live);
  });

  it('allows TF32 in matrix products and convolutions alike', () => {
    for (const allowTF32 of [true, false]) {
      tuneCuda({ allowTF32 });
      expect(native().tuneCuda(allowTF32)).toEqual({ matmulTF32: allowTF32, convolutionTF32: allowTF32 });
    }
  });
});
