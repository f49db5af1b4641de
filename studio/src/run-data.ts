/** @file The curves of a run in the page: loaded once, then followed by its event stream. */
import { type MetricsLine, scalarsOf } from '../../src/studio/scalars.js';
import { fetchApi, runPath, serverEvents } from './api.js';

export interface Curve {
  steps: number[];
  values: number[];
}

/** How long to wait before a lost stream is opened again, in ms. */
const RETRY_MS = 2000;

export class RunData {
  curves = new Map<string, Curve>();
  #position = '';
  readonly #id: string;

  constructor(id: string) {
    this.#id = id;
  }

  /** Loads the curves up to now. */
  async load(signal: AbortSignal): Promise<void> {
    const response = await fetchApi(runPath(this.#id, 'series'), signal);
    const bytes = await response.arrayBuffer();
    const headerLength = new DataView(bytes).getUint32(0, true);
    const header = JSON.parse(new TextDecoder().decode(new Uint8Array(bytes, 4, headerLength))) as {
      position: string;
      series: { name: string; length: number }[];
    };
    this.#position = header.position;
    this.curves = new Map();
    let at = 4 + headerLength;
    for (const { name, length } of header.series) {
      const steps = Array.from(new Uint32Array(bytes, at, length));
      const values = Array.from(new Float32Array(bytes, at + 4 * length, length));
      this.curves.set(name, { steps, values });
      at += 8 * length;
    }
  }

  /**
   * Loads the curves and follows them until `signal` is aborted.
   * @param onChange is told of new events; an empty list after the loading
   * @param onLost is told whether the studio answers
   */
  async follow(
    signal: AbortSignal,
    onChange: (events: MetricsLine[]) => void,
    onLost: (isLost: boolean) => void,
  ): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.load(signal);
        onLost(false);
        onChange([]);
        const stream = serverEvents(runPath(this.#id, `events?from=${this.#position}`), signal);
        for await (const { event, data } of stream) {
          if (event === 'reset') break;
          if (event === 'lines') onChange(this.#add(data));
        }
      } catch {
        if (signal.aborted) return;
        onLost(true);
      }
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }

  #add(lines: string): MetricsLine[] {
    const events = lines.split('\n').flatMap((line): MetricsLine[] => {
      try {
        return [JSON.parse(line) as MetricsLine];
      } catch {
        return [];
      }
    });
    for (const event of events)
      for (const [name, value] of scalarsOf(event)) {
        const curve = this.curves.get(name) ?? { steps: [], values: [] };
        this.curves.set(name, curve);
        curve.steps.push(event.step);
        curve.values.push(value);
      }
    return events;
  }
}

/** Returns the moving average of values, without the pull towards 0 at its start. @param weight of the past, 0 ≤ weight < 1 */
export function smooth(values: readonly number[], weight: number): number[] {
  if (weight === 0) return [...values];
  let [sum, norm] = [0, 0];
  return values.map((value) => {
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}
