/** @file Creates tensors: from values, constant, random, and by joining others. */
import { type DType, dtypes } from './dtype.js';
import type { Generator } from './generator.js';
import { native } from './native.js';
import { type Device, op, Tensor, type Values } from './tensor.js';

export interface TensorOptions {
  /** Default: 'float32'. */
  dtype?: DType;
  /** Default: 'cpu'. */
  device?: Device;
}

export interface RandomOptions extends TensorOptions {
  /** Default: LibTorch's global generator, which has the same state at each start. */
  generator?: Generator;
}

const arrayTypes: Partial<Record<DType, new (values: Iterable<never>) => Values>> = {
  float32: Float32Array,
  float64: Float64Array,
  uint8: Uint8Array,
  bool: Uint8Array,
  int8: Int8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
};

function dtypeOfArray(values: Values): DType {
  if (values instanceof Float32Array) return 'float32';
  if (values instanceof Float64Array) return 'float64';
  if (values instanceof Uint8Array) return 'uint8';
  if (values instanceof Int8Array) return 'int8';
  if (values instanceof Int16Array) return 'int16';
  if (values instanceof Int32Array) return 'int32';
  return 'int64';
}

/**
 * Returns a CPU tensor with a copy of the values, row-major.
 * @param dtype default: the dtype of the typed array; 'float32' for plain numbers
 */
export function tensor(data: readonly number[] | Values, shape: readonly number[], dtype?: DType): Tensor {
  if (Array.isArray(data)) {
    const wanted = dtype ?? 'float32';
    const type = arrayTypes[wanted] ?? Float32Array;
    const values = new type((wanted === 'int64' ? data.map(BigInt) : data) as never);
    const made = fromValues(values, shape);
    return made.dtype === wanted ? made : made.to(wanted);
  }
  const made = fromValues(data as Values, shape);
  return dtype === undefined || dtype === made.dtype ? made : made.to(dtype);
}

function fromValues(values: Values, shape: readonly number[]): Tensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return new Tensor(native().fromBytes(bytes, dtypes[dtypeOfArray(values)].code, shape));
}

export function empty(
  shape: readonly number[],
  { dtype = 'float32', device = 'cpu' }: TensorOptions = {},
): Tensor {
  return aten.empty(shape, dtype, null, device);
}

export function zeros(
  shape: readonly number[],
  { dtype = 'float32', device = 'cpu' }: TensorOptions = {},
): Tensor {
  return aten.zeros(shape, dtype, null, device);
}

export function ones(
  shape: readonly number[],
  { dtype = 'float32', device = 'cpu' }: TensorOptions = {},
): Tensor {
  return aten.ones(shape, dtype, null, device);
}

export function full(
  shape: readonly number[],
  value: number,
  { dtype = 'float32', device = 'cpu' }: TensorOptions = {},
): Tensor {
  return aten.full(shape, value, dtype, null, device);
}

/** Returns start, start + step, … below end. */
export function arange(
  start: number,
  end: number,
  step = 1,
  { dtype = 'float32', device = 'cpu' }: TensorOptions = {},
): Tensor {
  return aten.arange(start, end, step, dtype, null, device);
}

/** Returns standard normal numbers. */
export function randn(
  shape: readonly number[],
  { generator, dtype = 'float32', device = 'cpu' }: RandomOptions = {},
): Tensor {
  return aten.randn(shape, generator ?? null, dtype, null, device);
}

/** Returns uniform numbers in [0, 1). */
export function rand(
  shape: readonly number[],
  { generator, dtype = 'float32', device = 'cpu' }: RandomOptions = {},
): Tensor {
  return aten.rand(shape, generator ?? null, dtype, null, device);
}

/** Returns uniform integers, low ≤ x < high; default dtype: int64. */
export function randint(
  low: number,
  high: number,
  shape: readonly number[],
  { generator, dtype = 'int64', device = 'cpu' }: RandomOptions = {},
): Tensor {
  return aten.randint(low, high, shape, generator ?? null, dtype, null, device);
}

export function cat(tensors: readonly Tensor[], dim = 0): Tensor {
  return aten.cat(tensors, dim);
}

export function stack(tensors: readonly Tensor[], dim = 0): Tensor {
  return aten.stack(tensors, dim);
}

const aten = {
  empty: op(
    'aten::empty.memory_format(SymInt[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, MemoryFormat? memory_format=None) -> Tensor',
  ),
  zeros: op(
    'aten::zeros(SymInt[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor',
  ),
  ones: op(
    'aten::ones(SymInt[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor',
  ),
  full: op(
    'aten::full(SymInt[] size, Scalar fill_value, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor',
  ),
  arange: op(
    'aten::arange.start_step(Scalar start, Scalar end, Scalar step=1, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor',
  ),
  randn: op(
    'aten::randn.generator(SymInt[] size, *, Generator? generator, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor',
  ),
  rand: op(
    'aten::rand.generator(SymInt[] size, *, Generator? generator, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor',
  ),
  randint: op(
    'aten::randint.low_generator(SymInt low, SymInt high, SymInt[] size, *, Generator? generator, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None) -> Tensor',
  ),
  cat: op('aten::cat(Tensor[] tensors, int dim=0) -> Tensor'),
  stack: op('aten::stack(Tensor[] tensors, int dim=0) -> Tensor'),
};
