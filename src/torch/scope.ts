/**
 * @file Who lets go of tensors. JS has no reference counts, so scopes do the work: `tidy` releases every tensor
 * made inside it but the returned ones. Autograd holds what backward needs by itself. A tensor that is in no
 * scope is released by `dispose`, or at the latest by the garbage collector.
 */
import { native, type RawHandle } from './native.js';

/** The part of a tensor that lifetime is about. */
export abstract class Held {
  readonly #handle: RawHandle;
  #released = false;

  constructor(handle: RawHandle) {
    this.#handle = handle;
    if (current === null) finalizers.register(this, handle, this);
    else current.push(this);
  }

  /** Valid until the tensor is disposed; the addon refuses it after. */
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

  /** @internal The scope releases many at once. */
  markReleased(): void {
    this.#released = true;
  }
}

const finalizers = new FinalizationRegistry((handle: RawHandle) => native().release([handle]));

let current: Held[] | null = null;

/** Every Held inside arrays, maps and plain objects. */
function collect(value: unknown, found: Set<Held>): void {
  if (value instanceof Held) found.add(value);
  else if (value instanceof Map || Array.isArray(value))
    for (const item of value.values()) collect(item, found);
  else if (value !== null && typeof value === 'object' && Object.getPrototypeOf(value) === Object.prototype)
    for (const item of Object.values(value)) collect(item, found);
}

/**
 * Runs `fn` and releases every tensor made inside it, except those in its result (a tensor, or arrays, maps and
 * plain objects of them), which then belong to the enclosing scope.
 * @throws Error where `fn` returns a promise: a scope cannot stay open across an `await`.
 */
export function tidy<T>(fn: () => T): T {
  const outer: Held[] | null = current;
  const mine: Held[] = [];
  current = mine;
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
    const gone: RawHandle[] = [];
    for (const tensor of mine) {
      if (tensor.isDisposed) continue;
      if (!kept.has(tensor)) {
        tensor.markReleased();
        gone.push(tensor.handle);
      } else if (outer === null) finalizers.register(tensor, tensor.handle, tensor);
      else outer.push(tensor);
    }
    native().release(gone);
  }
}

/** Runs `fn` outside of every scope: what it makes stays until it is disposed, or garbage. */
export function untidied<T>(fn: () => T): T {
  const outer = current;
  current = null;
  try {
    return fn();
  } finally {
    current = outer;
  }
}
