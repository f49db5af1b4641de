/** @file Runs asynchronous work one piece after another, in the order of the calls. */
import { setMaxListeners } from 'node:events';

export class Queue {
  #last: Promise<unknown> = Promise.resolve();
  #unfinished = 0;
  readonly #closing = new AbortController();

  constructor() {
    // One for each call that waits.
    setMaxListeners(0, this.#closing.signal);
  }

  /**
   * Runs work when all earlier work has ended. A signal that aborts before that ends the wait at once; the work itself gets
   * it, and ends by itself.
   * @throws the signal's reason, that of `close`, or what the work throws
   */
  run<T>(work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const closing = this.#closing.signal;
    const either = signal === undefined ? closing : AbortSignal.any([signal, closing]);
    this.#unfinished++;
    return new Promise((resolve, reject) => {
      const stop = (): void => reject(either.reason);
      const result = this.#last.then(() => {
        either.removeEventListener('abort', stop);
        either.throwIfAborted();
        return work(either);
      });
      const end = (): void => {
        this.#unfinished--;
      };
      this.#last = result.then(end, end);
      result.then(resolve, reject);
      if (either.aborted) stop();
      else either.addEventListener('abort', stop, { once: true });
    });
  }

  /**
   * Refuses work that has not begun and all later work, tells the running work to end, and then calls `release`: at once
   * where nothing runs.
   */
  close(reason: Error, release: () => void): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(reason);
    if (this.#unfinished === 0) release();
    else this.#last.then(release);
  }
}
