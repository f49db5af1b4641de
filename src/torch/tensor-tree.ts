/**
 * @file Records of tensors: plain objects and arrays, nested as they like, whose leaves are tensors beside numbers,
 * strings, functions and class instances, which stay as they are (PyTorch `torch/utils/_pytree.py`). Whatever does the
 * same to every tensor of a record (micro-batches, guidance, checkpointing, recorded graphs, moves) goes through the one
 * pair `tensorsOf` and `withTensors`, so that a new field of a record needs no change there.
 */
import { Tensor } from './tensor.js';

/** Returns the tensors of a record, in the order of its fields. */
export function tensorsOf(record: unknown): Tensor[] {
  if (record instanceof Tensor) return [record];
  return isNode(record) ? Object.values(record).flatMap(tensorsOf) : [];
}

/**
 * Returns the same record with other tensors in place of its own.
 * @param tensors as many as `tensorsOf` gives, in its order
 */
export function withTensors<T>(record: T, tensors: readonly Tensor[]): T {
  let next = 0;
  const replace = (value: unknown): unknown => {
    if (value instanceof Tensor) return tensors[next++];
    if (Array.isArray(value)) return value.map(replace);
    if (!isNode(value)) return value;
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, replace(item)]));
  };
  return replace(record) as T;
}

/** Returns the same record with `fn` of each tensor. */
export function mapTensors<T>(record: T, fn: (tensor: Tensor) => Tensor): T {
  return withTensors(record, tensorsOf(record).map(fn));
}

/**
 * Returns the first record with `fn` of the tensors that all the records have in one place.
 * @param records alike in their fields, one or more
 */
export function zipTensors<T>(records: readonly [T, ...T[]], fn: (tensors: Tensor[]) => Tensor): T {
  const columns = records.map(tensorsOf);
  return withTensors(
    records[0],
    (columns[0] as Tensor[]).map((_, i) => fn(columns.map((column) => column[i] as Tensor))),
  );
}

function isNode(value: unknown): value is Record<string, unknown> | unknown[] {
  if (Array.isArray(value)) return true;
  return value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype;
}
