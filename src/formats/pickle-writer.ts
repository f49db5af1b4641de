/** @file Writes the pickle of `torch.save` for dictionaries of tensors, in protocol 2 like torch. */

import type { Tensor } from '../torch/tensor.js';
import { storageClasses } from './tensor-pickle.js';

/** Named dictionaries of named tensors. */
export type TensorDictionaries = Readonly<Record<string, ReadonlyMap<string, Tensor>>>;

/** Returns the `data.pkl` of nested dictionaries. Storage `i` holds the values of the i-th tensor alone, in row-major order. */
export function pickleTensors(dictionaries: TensorDictionaries): Buffer {
  const parts: Buffer[] = [Buffer.from([0x80, 2])]; // PROTO 2
  let storage = 0;
  writeDictionary(parts, Object.entries(dictionaries), (tensors) => {
    writeDictionary(parts, tensors, (tensor) => writeTensor(parts, tensor, String(storage++)));
  });
  parts.push(STOP);
  return Buffer.concat(parts);
}

const MARK = Buffer.from('(');
const TUPLE = Buffer.from('t');
const EMPTY_TUPLE = Buffer.from(')');
const REDUCE = Buffer.from('R');
const STOP = Buffer.from('.');
const FALSE = Buffer.from([0x89]);

function writeDictionary<T>(
  parts: Buffer[],
  entries: Iterable<[string, T]>,
  write: (value: T) => void,
): void {
  parts.push(Buffer.from('}('));
  for (const [key, value] of entries) {
    parts.push(text(key));
    write(value);
  }
  parts.push(Buffer.from('u'));
}

/** Writes a call of `_rebuild_tensor_v2(storage, offset, shape, strides, requires_grad, hooks)`. */
function writeTensor(parts: Buffer[], { dtype, shape, numel }: Tensor, key: string): void {
  const strides = shape.map((_, i) => shape.slice(i + 1).reduce((product, size) => product * size, 1));
  parts.push(
    global('torch._utils', '_rebuild_tensor_v2'),
    MARK,
    ...[
      MARK,
      text('storage'),
      global('torch', storageClasses[dtype]),
      text(key),
      text('cpu'),
      integer(numel),
      TUPLE,
    ],
    Buffer.from('Q'), // BINPERSID: the tuple identifies the storage
    integer(0),
    ...[MARK, ...shape.map(integer), TUPLE],
    ...[MARK, ...strides.map(integer), TUPLE],
    FALSE,
    ...[global('collections', 'OrderedDict'), EMPTY_TUPLE, REDUCE],
    TUPLE,
    REDUCE,
  );
}

function global(module: string, name: string): Buffer {
  return Buffer.from(`c${module}\n${name}\n`);
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  const head = Buffer.from('X\0\0\0\0', 'latin1');
  head.writeUInt32LE(bytes.length, 1);
  return Buffer.concat([head, bytes]);
}

function integer(value: number): Buffer {
  if (value < 2 ** 31) {
    const small = Buffer.from('J\0\0\0\0', 'latin1');
    small.writeInt32LE(value, 1);
    return small;
  }
  const large = Buffer.from([0x8a, 8, 0, 0, 0, 0, 0, 0, 0, 0]); // LONG1
  large.writeBigInt64LE(BigInt(value), 2);
  return large;
}
