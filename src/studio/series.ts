/** @file A curve in bounded memory: above so many points, neighbours are averaged. */

const MAX_POINTS = 2 ** 17;
const FIRST_POINTS = 2 ** 8;

export class Series {
  // Eight bytes a point; the arrays grow with the run.
  #steps = new Uint32Array(FIRST_POINTS);
  #values = new Float32Array(FIRST_POINTS);
  #length = 0;
  /** How many values are averaged into one point. */
  every = 1;
  #sum = 0;
  #count = 0;
  largest: { step: number; value: number } | undefined;

  add(step: number, value: number): void {
    if (this.largest === undefined || value > this.largest.value) this.largest = { step, value };
    this.#sum += value;
    if (++this.#count < this.every) return;
    if (this.#length === this.#steps.length) this.#grow();
    this.#steps[this.#length] = step;
    this.#values[this.#length++] = this.#sum / this.#count;
    this.#sum = 0;
    this.#count = 0;
    if (this.#length === MAX_POINTS) this.#halve();
  }

  #grow(): void {
    const [steps, values] = [this.#steps, this.#values];
    this.#steps = new Uint32Array(2 * steps.length);
    this.#values = new Float32Array(2 * values.length);
    this.#steps.set(steps);
    this.#values.set(values);
  }

  #halve(): void {
    this.#length /= 2;
    for (let i = 0; i < this.#length; i++) {
      this.#steps[i] = this.#steps[2 * i + 1] as number;
      this.#values[i] = ((this.#values[2 * i] as number) + (this.#values[2 * i + 1] as number)) / 2;
    }
    this.every *= 2;
  }

  get steps(): Uint32Array<ArrayBuffer> {
    return this.#steps.subarray(0, this.#length);
  }

  get values(): Float32Array<ArrayBuffer> {
    return this.#values.subarray(0, this.#length);
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
  const names = [...series].map(([name, { steps, every }]) => ({ name, length: steps.length, every }));
  const json = JSON.stringify({ ...more, series: names });
  const header = Buffer.from(json + ' '.repeat((4 - (Buffer.byteLength(json) % 4)) % 4));
  const length = Buffer.alloc(4);
  length.writeUInt32LE(header.length);
  const parts: Uint8Array[] = [length, header];
  for (const { steps, values } of series.values())
    for (const array of [steps, values])
      parts.push(new Uint8Array(array.buffer, array.byteOffset, array.byteLength));
  return Buffer.concat(parts);
}
