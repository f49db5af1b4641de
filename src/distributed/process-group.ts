/**
 * @file The processes that train together, as one of them sees them. All processes must call the same collectives in the same
 * order: never one under a condition that only some of them meet.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { ConfigError } from '../base/errors.js';
import { Tensor, tensor } from '../torch/index.js';
import type { NativeDistributed, NativeGroup, NativeStore } from '../torch/native.js';
import { explainCollective, type Member, ProcessGroupError } from './process-group-error.js';
import type { Processes } from './processes.js';

/** How often a process that waits for the work of another checks that all are there, in ms. */
const CHECK_MS = 2000;
/** How long reports of failures may take, in ms. */
const REPORT_MS = 2000;

interface Parts {
  readonly rank: number;
  readonly worldSize: number;
  readonly localRank: number;
  readonly localWorldSize: number;
  readonly members: readonly Member[];
  readonly timeoutSeconds: number;
  readonly c10d: NativeDistributed;
  readonly store: NativeStore;
  /** Connects CPUs. */
  readonly gloo: NativeGroup;
}

export class ProcessGroup implements Processes {
  readonly rank: number;
  readonly worldSize: number;
  /** The rank among the processes of this host: the index of the process's GPU. */
  readonly localRank: number;
  readonly localWorldSize: number;
  /** By rank. */
  readonly members: readonly Member[];
  readonly #parts: Parts;
  /** Connects GPUs; undefined on the CPU. */
  #nccl: NativeGroup | undefined;

  /** @internal Use `joinProcessGroup`. */
  constructor(parts: Parts) {
    this.rank = parts.rank;
    this.worldSize = parts.worldSize;
    this.localRank = parts.localRank;
    this.localWorldSize = parts.localWorldSize;
    this.members = parts.members;
    this.#parts = parts;
  }

  /** Whether this process is rank 0, which writes files and messages for all. */
  get isMain(): boolean {
    return this.rank === 0;
  }

  /** Connects the GPUs of the processes by NCCL, if the addon was built with it; otherwise their tensors pass through Gloo. */
  async connectGpus(): Promise<void> {
    const { c10d, store, rank, worldSize, timeoutSeconds } = this.#parts;
    if (!c10d.hasNCCL) return;
    // Everyone is there: NCCL's first collective does not keep its timeout.
    await this.agree([0]);
    const settings = { rank, worldSize, backend: 'nccl', address: '', interface: '' } as const;
    this.#nccl = await this.#done(c10d.createGroup(store, { ...settings, timeout: timeoutSeconds * 1000 }));
  }

  /** Replaces a contiguous tensor by the sum of all ranks'. Leave it alone until then. The result is the same to the bit on all ranks. */
  async allReduce(values: Tensor): Promise<void> {
    await this.#done(this.#parts.c10d.allReduce(this.#groupOf(values), values.handle, 'sum'));
  }

  /** Replaces a contiguous tensor by that of rank 0. */
  async broadcast(values: Tensor): Promise<void> {
    await this.#done(this.#parts.c10d.broadcast(this.#groupOf(values), values.handle, 0));
  }

  /** Returns the largest of all ranks' numbers, one after another. */
  async agree(numbers: readonly number[]): Promise<number[]> {
    const values = tensor(Float64Array.from(numbers), [numbers.length]);
    try {
      await this.#done(this.#parts.c10d.allReduce(this.#parts.gloo, values.handle, 'max'));
      return values.toNumbers();
    } finally {
      values.dispose();
    }
  }

  /** Returns the bytes of every rank, by rank. */
  async gatherBytes(bytes: Uint8Array): Promise<Uint8Array[]> {
    const lengths = (await this.#allGather(BigInt64Array.of(BigInt(bytes.length)))).map(
      (one) => new BigInt64Array(one.buffer)[0],
    );
    const padded = new Uint8Array(Math.max(1, ...lengths.map(Number)));
    padded.set(bytes);
    const gathered = await this.#allGather(padded);
    return gathered.map((one, rank) => one.subarray(0, Number(lengths[rank])));
  }

  /** Returns a JSON value of every rank, by rank. Its numbers may be NaN and infinite. */
  async gatherJson<T>(value: T): Promise<T[]> {
    const gathered = await this.gatherBytes(Buffer.from(JSON.stringify({ value }, withoutNaN)));
    return gathered.map(
      (bytes) => (JSON.parse(Buffer.from(bytes).toString(), withNaN) as { value: T }).value,
    );
  }

  async #allGather(values: Uint8Array | BigInt64Array): Promise<Uint8Array[]> {
    const { c10d, gloo } = this.#parts;
    const own = tensor(values, [values.length]);
    try {
      const handles = await this.#done(c10d.allGather(gloo, own.handle));
      return handles.map((handle) => {
        const gathered = new Tensor(handle);
        const bytes = gathered.toBytes();
        gathered.dispose();
        return bytes;
      });
    } finally {
      own.dispose();
    }
  }

  /**
   * Runs work that may take longer than the timeout of a collective, at once on all ranks, and returns when all have done it.
   * Meanwhile the ranks ask each other every few seconds, so that the end of one is noticed. The work must not call
   * collectives.
   * @throws the work's own error; ProcessGroupError with the reason where it failed on another rank
   */
  async together<T>(work: () => T | Promise<T>): Promise<T> {
    let [isPending, hasFailed] = [true, false];
    const outcome = (async () => work())();
    const settled = outcome.then(
      () => {
        isPending = false;
      },
      () => {
        [isPending, hasFailed] = [false, true];
      },
    );
    for (;;) {
      const wake = new AbortController();
      const rest = sleep(CHECK_MS, undefined, { signal: wake.signal }).catch(() => {});
      await Promise.race([settled, rest]);
      wake.abort();
      if (hasFailed) await outcome.catch((error: unknown) => this.reportFailure(error));
      const [pending, failed] = await this.agree([Number(isPending), Number(hasFailed)]);
      if (failed === 1) {
        if (hasFailed) return await outcome;
        throw await this.failureOfOthers();
      }
      if (pending === 0) return await outcome;
    }
  }

  /**
   * Checks that a value is the same on all ranks.
   * @param values by the names that an error shows
   * @throws ConfigError on all ranks, with the names that differ and the ranks' values
   */
  async assertSame(values: Readonly<Record<string, unknown>>): Promise<void> {
    const all = await this.gatherJson(values);
    const [main = {}, ...others] = all;
    const faults = others.flatMap((other, i) =>
      [...new Set([...Object.keys(main), ...Object.keys(other)])]
        .filter((name) => JSON.stringify(main[name]) !== JSON.stringify(other[name]))
        .map(
          (name) => `${name} is ${shown(main[name])} at rank 0 but ${shown(other[name])} at rank ${i + 1}`,
        ),
    );
    if (faults.length > 0)
      throw new ConfigError(
        `Processes that train together need the same options and data, but ${faults.join('; ')}. Start all with the same command`,
      );
  }

  /** Tells the other ranks why this one ends: they give the reason when they miss it. */
  async reportFailure(error: unknown): Promise<void> {
    // It only repeats what has happened elsewhere.
    if (error instanceof ProcessGroupError) return;
    const { c10d, store } = this.#parts;
    const text = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    // The store may be gone.
    await within(REPORT_MS, c10d.storeSet(store, `failed/${this.rank}`, text)).catch(() => {});
  }

  /** Returns the error for a rank that has learnt from the others that one of them failed. */
  async failureOfOthers(): Promise<ProcessGroupError> {
    return this.#explain(new Error('another process failed'));
  }

  #groupOf(values: Tensor): NativeGroup {
    return values.device === 'cpu' ? this.#parts.gloo : (this.#nccl ?? this.#parts.gloo);
  }

  async #done<T>(collective: Promise<T>): Promise<T> {
    try {
      return await collective;
    } catch (error) {
      throw await this.#explain(error as Error);
    }
  }

  async #explain(error: Error): Promise<ProcessGroupError> {
    const { members, timeoutSeconds } = this.#parts;
    const failures = await within(REPORT_MS, this.#failures()).catch(() => new Map<number, string>());
    return new ProcessGroupError(explainCollective(error.message, members, failures, timeoutSeconds), {
      cause: error,
    });
  }

  async #failures(): Promise<Map<number, string>> {
    const { c10d, store, worldSize } = this.#parts;
    const failures = new Map<number, string>();
    for (let rank = 0; rank < worldSize; rank++) {
      const report = await c10d.storeFind(store, `failed/${rank}`);
      if (report !== null) failures.set(rank, report);
    }
    return failures;
  }
}

/** Rejects where the promise takes longer. */
export function within<T>(
  ms: number,
  promise: Promise<T>,
  message = `no answer within ${ms / 1000} s`,
): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), ms);
  });
  promise.catch(() => {});
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** The key of the text of a number that JSON does not have: as `null` it would count as 0. */
const notFinite = 'not finite';

function withoutNaN(_: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? { [notFinite]: String(value) } : value;
}

function withNaN(_: string, value: unknown): unknown {
  const isNumber = typeof value === 'object' && value !== null && Object.hasOwn(value, notFinite);
  return isNumber ? Number((value as Record<string, string>)[notFinite]) : value;
}

function shown(value: unknown): string {
  return value === undefined ? 'unset' : JSON.stringify(value);
}
