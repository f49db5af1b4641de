/**
 * @file The lifetime of tensors. JavaScript has no reference counts, so scopes release tensors: `tidy` releases every tensor
 * that was created inside it, except the returned ones. Autograd itself keeps the tensors that backward needs. A tensor in no
 * scope is released by `dispose`, or at the latest by the garbage collector.
 */
import { native, type RawHandle } from './native.js';

/** A handle that a scope can release: the base class of Tensor. */
export abstract class Held {
  readonly #handle: RawHandle;
  #released = false;

  constructor(handle: RawHandle) {
    this.#handle = handle;
    if (current === null) finalizers.register(this, handle, this);
    else current.push(this);
  }

  /** The addon's handle. The addon refuses it after the tensor was disposed. */
  get handle(): RawHandle {
    return this.#handle;
  }

  get isDisposed(): boolean {
    return this.#released;
  }

  /** Releases the tensor now. A second call does nothing. */
  dispose(): void {
    if (this.#released) return;
    this.#released = true;
    finalizers.unregister(this);
    native().release([this.#handle]);
  }

  /** @internal Marks the tensor as released; the scope releases many handles at once. */
  markReleased(): void {
    this.#released = true;
  }
}

const finalizers = new FinalizationRegistry((handle: RawHandle) => native().release([handle]));

let current: Held[] | null = null;

/** Adds every Held inside arrays, maps and plain objects to a set. */
function collect(value: unknown, into: Set<Held>): void {
  if (value instanceof Held) into.add(value);
  else if (value instanceof Map || Array.isArray(value))
    for (const item of value.values()) collect(item, into);
  else if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype)
    for (const item of Object.values(value)) collect(item, into);
}

/**
 * Runs `fn` and releases every tensor that was created inside it, except those in its result (a tensor, or arrays, maps and
 * plain objects of them), which then belong to the enclosing scope.
 * @throws Error where `fn` returns a promise: a scope cannot stay open across an `await`.
 */
export function tidy<T>(fn: () => T): T {
  const outer: Held[] | null = current;
  const created: Held[] = [];
  current = created;
  const kept = new Set<Held>();
  try {
    const result = fn();
    if (result instanceof Promise) {
      result.catch(() => {});
      throw new Error('tidy: the callback returned a promise; do the await outside the scope');
    }
    collect(result, kept);
    return result;
  } finally {
    current = outer;
    const released: RawHandle[] = [];
    for (const tensor of created) {
      if (tensor.isDisposed) continue;
      if (!kept.has(tensor)) {
        tensor.markReleased();
        released.push(tensor.handle);
      } else if (outer === null) finalizers.register(tensor, tensor.handle, tensor);
      else outer.push(tensor);
    }
    native().release(released);
  }
}

/** Runs `fn` outside of every scope: the tensors that it creates stay until they are disposed or garbage-collected. */
export function untidied<T>(fn: () => T): T {
  const outer = current;
  current = null;
  try {
    return fn();
  } finally {
    current = outer;
  }
}
