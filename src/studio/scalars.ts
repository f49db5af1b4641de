/** @file The numbers of events by the names of their curves. The page has the same names. */
import type {
  GainEvent,
  RequestEvent,
  ScoresEvent,
  SheetEvent,
  StepEvent,
  VerdictEvent,
} from '../base/run-context.js';
import type { Interval } from '../base/statistics.js';

/** A line of `metrics.jsonl`, also of a version with other types. */
export type MetricsLine =
  | StepEvent
  | GainEvent
  | RequestEvent
  | ScoresEvent
  | SheetEvent
  | VerdictEvent
  | { type: string; step: number; [key: string]: unknown };

/** The measures of `ScoresEvent`. */
export const scoreNames = ['retrieval', 'dino', 'clipI', 'clipT', 'copies'] as const;

/**
 * Returns the numbers of an event as curves have them: `gain` with the ends of its interval as `gain/low` and `gain/high`,
 * `gain/specificity`, `gauge/…`, and `scores/dino` with `scores/dino/shuffled`, `scores/dino/no_adapter`, `scores/chance`.
 */
export function scalarsOf(event: MetricsLine): [name: string, value: number][] {
  const numbers =
    event.type === 'step'
      ? stepNumbers(event as StepEvent)
      : event.type === 'gain'
        ? gainNumbers(event as GainEvent)
        : event.type === 'scores'
          ? scoreNumbers(event as ScoresEvent)
          : [];
  return numbers.filter(([, value]) => Number.isFinite(value));
}

function stepNumbers(event: StepEvent): [string, number][] {
  return Object.entries(event).filter(
    (entry): entry is [string, number] =>
      typeof entry[1] === 'number' && !['v', 'step', 'total_steps', 'time'].includes(entry[0]),
  );
}

function gainNumbers({ gain, over_none, over_base, specificity, gauge }: GainEvent): [string, number][] {
  return [
    ...interval('gain', gain),
    ...interval('gain/over_none', over_none),
    ...interval('gain/over_base', over_base),
    ...interval('gain/specificity', specificity),
    ...Object.entries(gauge ?? {}).map(([layer, value]): [string, number] => [`gauge/${layer}`, value]),
  ];
}

function scoreNumbers({ rows, adapter, shuffled, noAdapter }: ScoresEvent): [string, number][] {
  const curves = scoreNames.flatMap((name): [string, number][] => [
    ...interval(`scores/${name}`, adapter?.[name]),
    ...interval(`scores/${name}/shuffled`, shuffled?.[name]).slice(0, 1),
    ...interval(`scores/${name}/no_adapter`, noAdapter?.[name]).slice(0, 1),
  ]);
  return [...curves, ['scores/chance', 1 / rows]];
}

function interval(name: string, one: Interval | null | undefined): [string, number][] {
  if (one == null) return [];
  return [
    [name, one.mean],
    [`${name}/low`, one.low],
    [`${name}/high`, one.high],
  ];
}
