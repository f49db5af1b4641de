/**
 * @file What the gain says, in words. The thresholds are those of the intervals and nothing else: a statement is made where
 * the 95 % interval over the held-out rows excludes zero.
 */
import type { GainEvent, Interval } from '../base/run-context.js';
import type { GainReport } from './gain.js';

/** `unclear`: the intervals contain zero, so there are too few rows or steps to say. */
export type VerdictKind = GainEvent['verdict'];

/** Before so many steps, an adapter that adds nothing useful yet is usual. */
const EARLY_STEPS = 1000;

export function verdictOf({ gain, over_base, specificity }: GainReport): VerdictKind {
  if (gain.low > 0) return 'uses the image';
  if (over_base.high < 0) return 'harms';
  // It has learnt something, but the same from every image.
  if (over_base.low > 0 && specificity.low <= 0) return 'ignores the image';
  return 'unclear';
}

/** Returns a statement with its figures, and for a bad one its likely causes, the likeliest first. */
export function describeVerdict(kind: VerdictKind, report: GainReport, step: number): string {
  const { rows, loss, over_none, over_base, specificity } = report;
  const figures =
    `On ${rows} held-out rows the loss is ${loss.right.toFixed(4)} with the right image: lower by ${shown(over_base)} than without adapter, ` +
    `by ${shown(over_none)} than without image, by ${shown(specificity)} than with another row's image (95 % intervals)`;
  const early = step < EARLY_STEPS ? ['usual in the first steps, while the new layers are still random'] : [];
  const causes: Record<VerdictKind, string[]> = {
    'uses the image': [],
    unclear: [],
    harms: [...early, 'a learning rate that is too high', 'captions or images unlike those of the model'],
    'ignores the image': [
      ...early,
      'reference images that do not belong to their rows (look at the columns for image and reference image)',
      'an image encoder that does not fit the data, such as one for faces',
      'a learning rate that is too low',
    ],
  };
  const statements: Record<VerdictKind, string> = {
    'uses the image': 'the adapter uses its image',
    unclear: 'it is not clear yet whether the adapter uses its image',
    harms: 'with the adapter, predictions are worse than without it',
    'ignores the image': 'the adapter has learnt, but the same from every image',
  };
  const likely =
    causes[kind].length === 0 ? '' : `. Likely causes, in this order: ${causes[kind].join('; ')}`;
  return `Step ${step}: ${statements[kind]}. ${figures}${likely}`;
}

function shown({ mean, low, high }: Interval): string {
  return `${mean.toFixed(4)} (${low.toFixed(4)} … ${high.toFixed(4)})`;
}
