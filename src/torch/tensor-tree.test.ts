import { expect, it } from 'vitest';
import { cat, mapTensors, tensor, tensorsOf, withTensors, zipTensors } from './index.js';

const numbers = (...values: number[]) => tensor(values, [values.length]);
class Owner {
  weight = numbers(9);
}
const owner = new Owner();
const record = (offset: number) => ({
  text: numbers(offset + 1),
  scale: 0.5,
  absent: undefined,
  nested: [{ pooled: numbers(offset + 2, offset + 3) }, null],
  owner,
  at() {
    return this.text;
  },
});

it('finds tensors in plain objects and arrays, in order, and none inside of class instances', () => {
  expect(tensorsOf(record(0)).map((found) => found.toNumbers())).toEqual([[1], [2, 3]]);
  expect(tensorsOf(numbers(4)).map((found) => found.toNumbers())).toEqual([[4]]);
  expect(tensorsOf(undefined)).toEqual([]);
});

it('puts others in their place, keeps all else, and leaves the record as it was', () => {
  const before = record(0);
  const after = withTensors(before, [numbers(7), numbers(8)]);
  expect(tensorsOf(after).map((found) => found.toNumbers())).toEqual([[7], [8]]);
  expect(after).toMatchObject({ scale: 0.5, absent: undefined, owner });
  // A method that looks at its own record sees the new tensors.
  expect(after.at().toNumbers()).toEqual([7]);
  expect(tensorsOf(before).map((found) => found.toNumbers())).toEqual([[1], [2, 3]]);
});

it('maps each tensor, and joins those of several records', () => {
  expect(tensorsOf(mapTensors(record(0), (each) => each.mul(2))).map((each) => each.toNumbers())).toEqual([
    [2],
    [4, 6],
  ]);
  const joined = zipTensors([record(0), record(10)], (pair) => cat(pair));
  expect(tensorsOf(joined).map((each) => each.toNumbers())).toEqual([
    [1, 11],
    [2, 3, 12, 13],
  ]);
});
