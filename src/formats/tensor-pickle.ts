/**
 * @file Reads the pickles of `torch.save`, in which a tensor is a view of a storage that is saved beside the pickle (PyTorch
 * torch/_utils.py).
 */
import { zeros } from '../torch/creation.js';
import { type DType, dtypes } from '../torch/dtype.js';
import { op, Tensor } from '../torch/tensor.js';
import { type PickleGlobal, Unread, unpickle } from './pickle.js';

/** The content of a torch file: dictionaries are Maps, lists and tuples arrays, unknown objects Unread. */
export type TorchValue =
  | null
  | boolean
  | number
  | bigint
  | string
  | Uint8Array
  | Tensor
  | Unread
  | TorchValue[]
  | Map<TorchValue, TorchValue>;

/** torch's class for a storage of each dtype. */
export const storageClasses: Record<DType, string> = {
  float32: 'FloatStorage',
  float64: 'DoubleStorage',
  float16: 'HalfStorage',
  bfloat16: 'BFloat16Storage',
  int64: 'LongStorage',
  int32: 'IntStorage',
  int16: 'ShortStorage',
  int8: 'CharStorage',
  uint8: 'ByteStorage',
  bool: 'BoolStorage',
};
/** dtypes that the error names; LibTorch 1.13 does not have them. */
const fp8 = ['float8_e4m3fn', 'float8_e5m2', 'float8_e4m3fnuz', 'float8_e5m2fnuz', 'float8_e8m0fnu'];
const UNTYPED = 'torch.storage.UntypedStorage';

const MAX_DEPTH = 100;
/** Shared values count each time, since code that walks the result visits them each time. */
const MAX_VALUES = 2_000_000;
const MAX_DIMENSIONS = 64;

export interface TensorPickleSource {
  /** The bytes of each storage (uint8, one dimension), by key. */
  storages: ReadonlyMap<string, Tensor>;
  /** The most bytes to copy for views that are not contiguous. */
  copyLimit: number;
  /** Whether values other than tensors and plain values are read as `Unread`; otherwise they are errors. */
  skipsOthers: boolean;
  /** Called with each tensor and the key of its storage. */
  onTensor: (tensor: Tensor, storage: string) => void;
  /** Throws an error about the file. */
  fail: (what: string) => never;
}

/** Reads `data.pkl`. Tensors are contiguous, and share their storage's memory if they are contiguous there. */
export function readTensorPickle(pickle: Buffer, source: TensorPickleSource): TorchValue {
  const { globals, load } = new TensorBuilder(source);
  const { skipsOthers, fail } = source;
  const value = unpickle(pickle, { globals, load, skipsOthers, fail });
  measure(value, 0, new Map(), fail);
  return value as TorchValue;
}

/** A storage that the pickle refers to. An untyped one, with dtype null, takes its dtype from the tensor. */
class Storage {
  constructor(
    readonly key: string,
    readonly bytes: Tensor,
    readonly dtype: DType | null,
  ) {}
}

/** Defines the globals and persistent ids of a pickle. */
class TensorBuilder {
  readonly globals = new Map<string, PickleGlobal>();
  readonly load = (id: unknown) => this.#storage(id);
  readonly #source: TensorPickleSource;
  readonly #dtypeOf = new Map<unknown, DType>();
  readonly #storageDtype = new Map<unknown, DType | null>();
  #copied = 0;

  constructor(source: TensorPickleSource) {
    this.#source = source;
    this.#define('collections.OrderedDict', () => new Map());
    this.#define('torch._utils._rebuild_tensor_v2', ([storage, offset, size, stride]) =>
      this.#tensorIn(storage, offset, size, stride),
    );
    this.#define('torch._utils._rebuild_tensor_v3', ([storage, offset, size, stride, , , dtype]) =>
      this.#tensorIn(storage, offset, size, stride, this.#dtype(dtype)),
    );
    this.#define('torch._utils._rebuild_parameter', ([data]) => data);
    this.#storageDtype.set(this.#define(UNTYPED), null);
    for (const name of fp8) this.#define(`torch.${name}`);
    for (const dtype of Object.keys(dtypes) as DType[]) {
      this.#dtypeOf.set(this.#define(`torch.${dtype}`), dtype);
      this.#storageDtype.set(this.#define(`torch.${storageClasses[dtype]}`), dtype);
    }
  }

  #define(name: string, call?: (args: unknown[]) => unknown): PickleGlobal {
    const global = { name, call };
    this.globals.set(name, global);
    return global;
  }

  /** Returns the dtype that a global stands for; undefined where it is not one. */
  #dtype(global: unknown): DType | undefined {
    const name = (global as Partial<PickleGlobal> | null)?.name ?? '';
    if (fp8.includes(name.replace(/^torch\./, '')))
      this.#source.fail(
        `it has fp8 weights (${name}), which cannot be read; use the file with float16, bfloat16 or float32 weights`,
      );
    return this.#dtypeOf.get(global);
  }

  /** Resolves ('storage', class, key, device, number of elements). The device it was saved from is ignored. */
  #storage(id: unknown): Storage {
    const { storages, fail } = this.#source;
    const [kind, type, key, , numel] = Array.isArray(id) ? id : [];
    const dtype = this.#storageDtype.get(type);
    if (kind !== 'storage' || dtype === undefined || typeof key !== 'string' || typeof numel !== 'number')
      return fail('it has a persistent id that is not a storage');
    const bytes = storages.get(key) ?? fail(`its storage ${key.slice(0, 100)} is missing`);
    const expected = numel * (dtype === null ? 1 : dtypes[dtype].bytes);
    if (bytes.numel !== expected)
      fail(`its storage ${key} should have ${expected} bytes but has ${bytes.numel}`);
    return new Storage(key, bytes, dtype);
  }

  #tensorIn(storage: unknown, ...view: [unknown, unknown, unknown, DType?]): Tensor {
    const tensor = this.#tensor(storage, ...view);
    this.#source.onTensor(tensor, (storage as Storage).key);
    return tensor;
  }

  #tensor(
    storage: unknown,
    offset: unknown,
    shape: unknown,
    strides: unknown,
    declaredDtype?: DType,
  ): Tensor {
    const { fail } = this.#source;
    if (!(storage instanceof Storage)) return fail('it has a tensor without a storage');
    const dtype = declaredDtype ?? storage.dtype ?? fail('it has a tensor without a dtype');
    if (!isSizes(shape) || !isSizes(strides) || !isSizes([offset]) || shape.length !== strides.length) {
      return fail(`it has a tensor without a valid shape in storage ${storage.key}`);
    }
    const span = shape.reduce((product, size) => product * Math.max(size, 1), dtypes[dtype].bytes);
    if (!Number.isSafeInteger(span)) fail(`it has a tensor of the impossible shape [${shape}]`);
    const numel = shape.reduce((product, size) => product * size, 1);
    if (numel === 0) return zeros(shape, { dtype });

    const first = offset as number;
    const last = shape.reduce((end, size, i) => end + (size - 1) * (strides[i] as number), first);
    const available = Math.floor(storage.bytes.numel / dtypes[dtype].bytes);
    if (last >= available) {
      fail(`its tensor [${shape}] ends at element ${last} of storage ${storage.key}, which has ${available}`);
    }
    const elements = aten.viewDtype(storage.bytes.slice(0, 0, available * dtypes[dtype].bytes), dtype);
    const rowMajor = rowMajorStrides(shape);
    // The stride of a dimension of size 1 has no meaning, and torch writes any number there.
    if (shape.every((size, i) => size === 1 || strides[i] === rowMajor[i])) {
      return aten.asStrided(elements, shape, rowMajor, first);
    }
    this.#copied += numel * dtypes[dtype].bytes;
    if (this.#copied > this.#source.copyLimit) fail('its views contain far more values than the file');
    return aten.asStrided(elements, shape, strides, first).contiguous();
  }
}

function isSizes(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.length <= MAX_DIMENSIONS &&
    value.every((n) => Number.isSafeInteger(n) && n >= 0)
  );
}

function rowMajorStrides(shape: readonly number[]): number[] {
  const strides = shape.map(() => 1);
  for (let i = shape.length - 2; i >= 0; i--)
    strides[i] = (strides[i + 1] as number) * (shape[i + 1] as number);
  return strides;
}

/** Objects that are not containers. */
const leaves = [Tensor, Uint8Array, Unread];

interface Extent {
  values: number;
  depth: number;
}

/** Refuses objects that are not plain values, and structures that are too costly to walk: cyclic, deep, or shared many times. */
function measure(
  value: unknown,
  depth: number,
  measured: Map<object, Extent>,
  fail: (what: string) => never,
): Extent {
  if (depth > MAX_DEPTH) fail(`its containers are nested more than ${MAX_DEPTH} deep`);
  if (!Array.isArray(value) && !(value instanceof Map)) {
    const isPlain =
      value === null || typeof value !== 'object' || leaves.some((leaf) => value instanceof leaf);
    return isPlain ? { values: 1, depth: 0 } : fail('it holds something other than tensors and plain values');
  }
  const existing = measured.get(value);
  if (existing) {
    if (depth + existing.depth > MAX_DEPTH) fail(`its containers are nested more than ${MAX_DEPTH} deep`);
    return existing;
  }
  const extent = { values: 1, depth: 0 };
  for (const child of value instanceof Map ? [...value.keys(), ...value.values()] : value) {
    const inner = measure(child, depth + 1, measured, fail);
    extent.values += inner.values;
    extent.depth = Math.max(extent.depth, inner.depth + 1);
  }
  if (extent.values > MAX_VALUES) fail(`it holds more than ${MAX_VALUES} values`);
  measured.set(value, extent);
  return extent;
}

const aten = {
  viewDtype: op('aten::view.dtype(Tensor(a) self, ScalarType dtype) -> Tensor(a)'),
  asStrided: op(
    'aten::as_strided(Tensor(a) self, SymInt[] size, SymInt[] stride, SymInt? storage_offset=None) -> Tensor(a)',
  ),
};
