/**
 * @file A list of small values, stored as JSON in buffers. As objects, a million rows would take three times as much memory
 * and slow down every garbage collection.
 */
import { createHash } from 'node:crypto';

/** The number of values in a buffer: few enough to find one in microseconds. */
const BLOCK = 64;
const NEWLINE = 10;

export class PackedList<T> {
  /** JSON lines, `BLOCK` in each. */
  readonly #blocks: Buffer[] = [];
  #pending: string[] = [];

  get length(): number {
    return this.#blocks.length * BLOCK + this.#pending.length;
  }

  push(value: T): void {
    this.#pending.push(JSON.stringify(value));
    if (this.#pending.length < BLOCK) return;
    this.#blocks.push(Buffer.from(`${this.#pending.join('\n')}\n`));
    this.#pending = [];
  }

  /** Returns a hash of the values: 64 hexadecimal digits. */
  fingerprint(): string {
    const hash = createHash('sha256');
    for (const block of this.#blocks) hash.update(block);
    return hash.update(this.#pending.join('\n')).digest('hex');
  }

  /** Yields the values as JSON. */
  *lines(): Generator<string> {
    for (const block of this.#blocks) yield* block.toString('utf8', 0, block.length - 1).split('\n');
    yield* this.#pending;
  }

  /** Returns a value. @param index 0 … length - 1 */
  at(index: number): T {
    const block = this.#blocks[Math.floor(index / BLOCK)];
    const indexInBlock = index % BLOCK;
    if (block === undefined) return JSON.parse(this.#pending[indexInBlock] as string) as T;
    let start = 0;
    for (let i = 0; i < indexInBlock; i++) start = block.indexOf(NEWLINE, start) + 1;
    return JSON.parse(block.toString('utf8', start, block.indexOf(NEWLINE, start))) as T;
  }
}
