/** @file The numbers of events by the names of their curves. The page has the same names. */
import type { GainEvent, RequestEvent, StepEvent } from '../base/run-context.js';

/** A line of `metrics.jsonl`, also of a version with other types. */
export type MetricsLine =
  | StepEvent
  | GainEvent
  | RequestEvent
  | { type: string; step: number; [key: string]: unknown };

/** Returns the numbers of an event as curves have them: `gain` with the ends of its interval, `gain/specificity`, `gauge/…`. */
export function scalarsOf(event: MetricsLine): [name: string, value: number][] {
  if (event.type === 'step')
    return Object.entries(event).filter(
      (entry): entry is [string, number] =>
        typeof entry[1] === 'number' && !['v', 'step', 'total_steps', 'time'].includes(entry[0]),
    );
  if (event.type !== 'gain') return [];
  const { gain, over_none, over_base, specificity, gauge } = event as GainEvent;
  const named = {
    gain,
    'gain/over_none': over_none,
    'gain/over_base': over_base,
    'gain/specificity': specificity,
  };
  const intervals = Object.entries(named).flatMap(([name, one]): [string, number][] =>
    one === undefined
      ? []
      : [
          [name, one.mean],
          [`${name}/low`, one.low],
          [`${name}/high`, one.high],
        ],
  );
  const byLayer = Object.entries(gauge ?? {}).map(([layer, value]): [string, number] => [
    `gauge/${layer}`,
    value,
  ]);
  return [...intervals, ...byLayer].filter(([, value]) => Number.isFinite(value));
}
