/** @file A curve in bounded memory: above so many points, neighbours are averaged. */

const MAX_POINTS = 2 ** 17;

export class Series {
  #steps: number[] = [];
  #values: number[] = [];
  /** How many values are averaged into one point. */
  every = 1;
  #sum = 0;
  #count = 0;

  add(step: number, value: number): void {
    this.#sum += value;
    if (++this.#count < this.every) return;
    this.#steps.push(step);
    this.#values.push(this.#sum / this.#count);
    this.#sum = 0;
    this.#count = 0;
    if (this.#steps.length >= MAX_POINTS) this.#halve();
  }

  #halve(): void {
    const half = this.#steps.length / 2;
    for (let i = 0; i < half; i++) {
      this.#steps[i] = this.#steps[2 * i + 1] as number;
      this.#values[i] = ((this.#values[2 * i] as number) + (this.#values[2 * i + 1] as number)) / 2;
    }
    this.#steps.length = half;
    this.#values.length = half;
    this.every *= 2;
  }

  get length(): number {
    return this.#steps.length;
  }

  get steps(): readonly number[] {
    return this.#steps;
  }

  get values(): readonly number[] {
    return this.#values;
  }

  get largest(): { step: number; value: number } | undefined {
    let best: { step: number; value: number } | undefined;
    for (const [i, value] of this.#values.entries())
      if (best === undefined || value > best.value) best = { step: this.#steps[i] as number, value };
    return best;
  }
}

/**
 * Returns curves as bytes: the length of a header (uint32, little-endian), the header as JSON padded to a multiple of 4, and then
 * for each of its curves the steps (uint32) and values (float32).
 */
export function encodeSeries(
  series: ReadonlyMap<string, Series>,
  more: Readonly<Record<string, unknown>>,
): Uint8Array {
  const names = [...series].map(([name, one]) => ({ name, length: one.length, every: one.every }));
  const json = JSON.stringify({ ...more, series: names });
  const header = Buffer.from(json + ' '.repeat((4 - (Buffer.byteLength(json) % 4)) % 4));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  const parts: Uint8Array[] = [length, header];
  for (const one of series.values())
    for (const array of [Uint32Array.from(one.steps), Float32Array.from(one.values)])
      parts.push(new Uint8Array(array.buffer));
  return Buffer.concat(parts);
}
