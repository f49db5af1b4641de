/** @file The statistics of the gain: mean differences of losses, with their intervals over rows. */

import type { Gains } from '../base/run-context.js';
import { type Interval, interval, mean } from '../base/statistics.js';

/** What a loss is measured with: the row's own image, another row's, none, and the base model without the adapter. */
const conditions = ['right', 'shuffled', 'none', 'base'] as const;
export type Condition = (typeof conditions)[number];

/** Returns the gains of losses. @param losses of the same rows, two or more, for each condition */
export function gainsOf(losses: Record<Condition, readonly number[]>): Gains {
  const over = (condition: Condition): Interval => interval(differences(losses[condition], losses.right));
  const [over_none, over_base, specificity] = [over('none'), over('base'), over('shuffled')];
  const loss = Object.fromEntries(
    conditions.map((condition) => [condition, mean(losses[condition])]),
  ) as Record<Condition, number>;
  const gain = [over_none, over_base, specificity].reduce((a, b) => (b.low < a.low ? b : a));
  return { loss, over_none, over_base, specificity, gain };
}

/** Returns how much higher each of the losses is than that of the same row. */
export function differences(losses: readonly number[], than: readonly number[]): number[] {
  return losses.map((loss, row) => loss - (than[row] as number));
}
