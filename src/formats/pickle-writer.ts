/** @file Writes the pickle of `torch.save` for tensors in lists and dictionaries, in protocol 2 like torch. */

import { Tensor } from '../torch/tensor.js';
import { storageClasses } from './tensor-pickle.js';

/** What can be written: a tensor, or lists and dictionaries of such. */
export type TensorContent =
  | Tensor
  | readonly TensorContent[]
  | ReadonlyMap<string, TensorContent>
  | { readonly [key: string]: TensorContent };

/** Returns the tensors of a content, in the order of its parts. */
export function contentTensors(content: TensorContent): Tensor[] {
  if (content instanceof Tensor) return [content];
  return (isList(content) ? content : entriesOf(content).map(([, part]) => part)).flatMap(contentTensors);
}

/** Returns the `data.pkl` of a content. Storage `i` holds the values of the i-th tensor alone, in row-major order. */
export function pickleTensors(content: TensorContent): Buffer {
  const parts: Buffer[] = [Buffer.from([0x80, 2])]; // PROTO 2
  let storage = 0;
  const write = (part: TensorContent): void => {
    if (part instanceof Tensor) writeTensor(parts, part, String(storage++));
    else if (isList(part)) {
      parts.push(Buffer.from(']('));
      part.forEach(write);
      parts.push(Buffer.from('e'));
    } else {
      parts.push(Buffer.from('}('));
      for (const [key, value] of entriesOf(part)) {
        parts.push(text(key));
        write(value);
      }
      parts.push(Buffer.from('u'));
    }
  };
  write(content);
  parts.push(STOP);
  return Buffer.concat(parts);
}

function isList(content: TensorContent): content is readonly TensorContent[] {
  return Array.isArray(content);
}

function entriesOf(
  content: ReadonlyMap<string, TensorContent> | { readonly [key: string]: TensorContent },
): [string, TensorContent][] {
  return content instanceof Map ? [...content] : Object.entries(content);
}

const MARK = Buffer.from('(');
const TUPLE = Buffer.from('t');
const EMPTY_TUPLE = Buffer.from(')');
const REDUCE = Buffer.from('R');
const STOP = Buffer.from('.');
const FALSE = Buffer.from([0x89]);

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
