/** @file Intervals: what is done at most so often, such as progress messages. */

export class Throttle {
  readonly #intervalMs: number;
  #start = performance.now();

  /** @param intervalMs the least time between two; the first interval begins now */
  constructor(intervalMs = 5000) {
    this.#intervalMs = intervalMs;
  }

  get isOver(): boolean {
    return performance.now() - this.#start >= this.#intervalMs;
  }

  /** Whether the interval is over; if so, the next one begins. */
  isDue(): boolean {
    const { isOver } = this;
    if (isOver) this.restart();
    return isOver;
  }

  /** Begins the next interval, and returns the milliseconds since this one began. */
  restart(): number {
    const now = performance.now();
    const passed = now - this.#start;
    this.#start = now;
    return passed;
  }
}
