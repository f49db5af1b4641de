/** @file The class Tensor: a handle of an at::Tensor, with the usual operators as methods. */
import { makeOperator, type Operator } from './dispatch.js';
import { type DType, dtypeOfCode, dtypes } from './dtype.js';
import { native } from './native.js';
import { Held } from './scope.js';
import { schemas } from './tensor-schemas.js';

export type Device = string;

/** Declares an ATen operator by its schema; see dispatch.ts. */
export function op<const S extends string>(schema: S): Operator<S, Tensor> {
  return makeOperator(schema, (handle) => new Tensor(handle));
}

export type Values =
  | Float32Array
  | Float64Array
  | Uint8Array
  | Int8Array
  | Int16Array
  | Int32Array
  | BigInt64Array;

/** A multi-dimensional array on a device. Its methods are the ATen operators of the same name, with autograd. */
export class Tensor extends Held {
  #shape: readonly number[] | undefined;
  #dtype: DType | undefined;

  /** The sizes of the dimensions; [] for a scalar. */
  get shape(): readonly number[] {
    this.#shape ??= native().shape(this.handle);
    return this.#shape;
  }

  get ndim(): number {
    return this.shape.length;
  }

  /** The number of elements. */
  get numel(): number {
    return this.shape.reduce((product, size) => product * size, 1);
  }

  /** The number of bytes of all elements. */
  get bytes(): number {
    return this.numel * dtypes[this.dtype].bytes;
  }

  get dtype(): DType {
    this.#dtype ??= dtypeOfCode(native().dtype(this.handle));
    return this.#dtype;
  }

  /** The device, such as 'cpu', 'cuda:0' or 'meta'. */
  get device(): Device {
    return native().device(this.handle);
  }

  /** Whether the values are in a mapped file, whose pages the system can drop and read again. */
  get isMapped(): boolean {
    return native().isMapped(this.handle);
  }

  get strides(): readonly number[] {
    return native().strides(this.handle);
  }

  get requiresGrad(): boolean {
    return native().requiresGrad(this.handle);
  }

  set requiresGrad(on: boolean) {
    native().setRequiresGrad(this.handle, on);
  }

  /** The gradient that backward() has accumulated; null if there is none. */
  get grad(): Tensor | null {
    const handle = native().grad(this.handle);
    return handle === null ? null : new Tensor(handle);
  }

  set grad(value: Tensor | null) {
    native().setGrad(this.handle, value === null ? null : value.handle);
  }

  /** Returns the value of a one-element tensor. Waits for the device. */
  item(): number {
    return Number(aten.item(this));
  }

  /** Returns a copy of the values, row-major; float16 and bfloat16 as float32, bool as 0 and 1. Waits for the device. */
  toArray(): Values {
    const dtype = this.dtype;
    const half = dtype === 'float16' || dtype === 'bfloat16';
    const source = half ? this.to('float32') : this;
    const buffer = native().toBytes(source.handle);
    if (half) source.dispose();
    switch (dtype) {
      case 'float64':
        return new Float64Array(buffer);
      case 'int64':
        return new BigInt64Array(buffer);
      case 'int32':
        return new Int32Array(buffer);
      case 'int16':
        return new Int16Array(buffer);
      case 'int8':
        return new Int8Array(buffer);
      case 'uint8':
      case 'bool':
        return new Uint8Array(buffer);
      default:
        return new Float32Array(buffer);
    }
  }

  /** Returns the values as plain numbers, row-major. Waits for the device. */
  toNumbers(): number[] {
    return Array.from(this.toArray() as ArrayLike<number | bigint>, Number);
  }

  /**
   * Starts a copy of the values to the host (float32 only) and returns a function that returns them. That function waits only
   * for work that was queued on the device before this call.
   */
  readLater(): () => number[] {
    const pending = native().readLater(this.handle);
    return () => Array.from(new Float32Array(native().finishRead(pending)));
  }

  /** Returns the bytes of the values, row-major, little-endian. Waits for the device. */
  toBytes(): Uint8Array {
    return new Uint8Array(native().toBytes(this.handle));
  }

  override toString(): string {
    return `Tensor([${this.shape.join(', ')}], ${this.dtype}${this.device === 'cpu' ? '' : `, ${this.device}`})`;
  }

  add(other: Tensor | number, alpha = 1): Tensor {
    return other instanceof Tensor ? aten.add(this, other, alpha) : aten.addScalar(this, other, alpha);
  }
  add_(other: Tensor | number, alpha = 1): Tensor {
    return other instanceof Tensor ? aten.add_(this, other, alpha) : aten.addScalar_(this, other, alpha);
  }
  sub(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.sub(this, other) : aten.subScalar(this, other);
  }
  mul(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.mul(this, other) : aten.mulScalar(this, other);
  }
  mul_(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.mul_(this, other) : aten.mulScalar_(this, other);
  }
  div(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.div(this, other) : aten.divScalar(this, other);
  }
  pow(exponent: number): Tensor {
    return aten.pow(this, exponent);
  }
  square(): Tensor {
    return aten.square(this);
  }
  neg(): Tensor {
    return aten.neg(this);
  }
  exp(): Tensor {
    return aten.exp(this);
  }
  log(): Tensor {
    return aten.log(this);
  }
  sqrt(): Tensor {
    return aten.sqrt(this);
  }
  sin(): Tensor {
    return aten.sin(this);
  }
  cos(): Tensor {
    return aten.cos(this);
  }
  abs(): Tensor {
    return aten.abs(this);
  }
  sigmoid(): Tensor {
    return aten.sigmoid(this);
  }
  clamp(min: number | null, max: number | null = null): Tensor {
    return aten.clamp(this, min, max);
  }
  eq(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.eq(this, other) : aten.eqScalar(this, other);
  }
  lt(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.lt(this, other) : aten.ltScalar(this, other);
  }
  gt(other: Tensor | number): Tensor {
    return other instanceof Tensor ? aten.gt(this, other) : aten.gtScalar(this, other);
  }

  matmul(other: Tensor): Tensor {
    return aten.matmul(this, other);
  }
  softmax(dim: number, dtype: DType | null = null): Tensor {
    return aten.softmax(this, dim, dtype);
  }
  sum(dims: readonly number[] | null = null, keepdim = false): Tensor {
    return aten.sum(this, dims, keepdim);
  }
  mean(dims: readonly number[] | null = null, keepdim = false): Tensor {
    return aten.mean(this, dims, keepdim);
  }
  cumprod(dim: number): Tensor {
    return aten.cumprod(this, dim);
  }
  /** Returns the largest element. */
  max(): Tensor {
    return aten.max(this);
  }
  /** Returns the smallest element. */
  min(): Tensor {
    return aten.min(this);
  }
  argmax(dim: number | null = null, keepdim = false): Tensor {
    return aten.argmax(this, dim, keepdim);
  }

  reshape(...shape: number[]): Tensor {
    return aten.reshape(this, shape);
  }
  view(...shape: number[]): Tensor {
    return aten.view(this, shape);
  }
  permute(...dims: number[]): Tensor {
    return aten.permute(this, dims);
  }
  transpose(a: number, b: number): Tensor {
    return aten.transpose(this, a, b);
  }
  unsqueeze(dim: number): Tensor {
    return aten.unsqueeze(this, dim);
  }
  squeeze(dim: number): Tensor {
    return aten.squeeze(this, dim);
  }
  flatten(startDim = 0, endDim = -1): Tensor {
    return aten.flatten(this, startDim, endDim);
  }
  expand(...shape: number[]): Tensor {
    return aten.expand(this, shape);
  }
  repeat(...counts: number[]): Tensor {
    return aten.repeat(this, counts);
  }
  /** @param memoryFormat 'channels_last' stores [n, c, h, w] with the channels of a pixel next to each other */
  contiguous(memoryFormat: 'contiguous' | 'channels_last' = 'contiguous'): Tensor {
    return aten.contiguous(this, memoryFormat);
  }
  /** Returns a view of the elements start … end - 1 of a dimension; if `end` is null, of all elements from `start` on. */
  slice(dim: number, start: number, end: number | null = null): Tensor {
    return aten.slice(this, dim, start, end);
  }
  select(dim: number, index: number): Tensor {
    return aten.select(this, dim, index);
  }
  indexSelect(dim: number, index: Tensor): Tensor {
    return aten.indexSelect(this, dim, index);
  }
  chunk(chunks: number, dim = 0): Tensor[] {
    return aten.chunk(this, chunks, dim) as Tensor[];
  }
  split(size: number, dim = 0): Tensor[] {
    return aten.split(this, size, dim) as Tensor[];
  }

  /** Converts to another dtype, device or both. If nothing changes, the result shares the storage. */
  to(to: DType | Device | { dtype?: DType; device?: Device }): Tensor {
    const { dtype, device } =
      typeof to === 'object' ? to : /^(cpu|cuda|meta|mps)/.test(to) ? { device: to } : { dtype: to as DType };
    return device === undefined
      ? aten.toDtype(this, dtype ?? this.dtype)
      : aten.toDevice(this, device, dtype ?? this.dtype);
  }
  /**
   * Copies a CPU tensor to a device. A GPU copies it asynchronously, from pinned memory. For the CPU, the result shares the
   * storage.
   */
  upload(device: Device): Tensor {
    const source = device === 'cpu' ? this : aten.pinMemory(this);
    const result = aten.toDevice(source, device, this.dtype, true);
    // LibTorch keeps the pinned memory until the copy is done.
    if (source !== this) source.dispose();
    return result;
  }
  clone(): Tensor {
    return aten.clone(this);
  }
  /** Returns a tensor with the same storage, without autograd's history. */
  detach(): Tensor {
    return aten.detach(this);
  }
  copy_(source: Tensor): Tensor {
    return aten.copy_(this, source);
  }
  zero_(): Tensor {
    return aten.zero_(this);
  }
}

type Schemas = typeof schemas;
const aten = Object.fromEntries(
  Object.entries(schemas).map(([name, schema]) => [name, op(schema)]),
) as unknown as {
  [Name in keyof Schemas]: Operator<Schemas[Name], Tensor>;
};
