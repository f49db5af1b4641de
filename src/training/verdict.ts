/**
 * @file What the measures of a run say, in words. A statement about the image, copies or the text is made where a 95 %
 * interval over the held-out rows allows it. All thresholds are here.
 */
import type { GainEvent, ScoresEvent, VerdictEvent } from '../base/run-context.js';
import type { Interval } from '../base/statistics.js';
import type { GainReport } from './gain.js';

/** `unclear`: the intervals contain zero, so there are too few rows or steps to say. */
export type VerdictKind = GainEvent['verdict'];

export interface Statement {
  kind: VerdictEvent['kind'];
  text: string;
}

/** From this step on, a run that does not use its image is told so. */
const LATE_STEP = 200;
/** Before so many steps, an adapter that adds nothing useful yet is usual. */
const EARLY_STEPS = 1000;
/** Features that differ by less than so much of their size are those of images that look the same. */
const SMALLEST_SPREAD = 1e-3;
/** A loss that has changed by less than so much of itself since an earlier measure is that of weights that stand still. */
const STANDSTILL = 1e-6;
/** So much higher than that of the base model, a loss is that of an adapter which destroys images. */
const DESTROYED = 1.2;
/** Text of which less than so much is left beside an image is ignored. */
const TEXT_LEFT = 0.25;
/** More images than this share, surely, are copies: the adapter copies. */
const COPIES = 0.5;

export function verdictOf({
  gain,
  over_base,
  specificity,
}: Pick<GainReport, 'gain' | 'over_base' | 'specificity'>): VerdictKind {
  if (gain.low > 0) return 'uses the image';
  if (over_base.high < 0) return 'harms';
  // It has learnt something, but the same from every image.
  if (over_base.low > 0 && specificity.low <= 0) return 'ignores the image';
  return 'unclear';
}

/**
 * Returns what a gain says of the image; null where nothing can be said yet.
 * @param earlier a report of an earlier step of the run
 */
export function imageStatement(
  report: GainReport,
  step: number,
  earlier: { step: number; report: GainReport } | undefined,
): Statement {
  const verdict = verdictOf(report);
  const kind = verdict === 'unclear' && step >= LATE_STEP ? 'does not use the image yet' : verdict;
  const { rows, loss, over_none, over_base, specificity } = report;
  const figures =
    `On ${rows} held-out rows the loss is ${loss.right.toFixed(4)} with the right image: lower by ${shown(over_base)} than without adapter, ` +
    `by ${shown(over_none)} than without image, by ${shown(specificity)} than with another row's image (95 % intervals)`;
  const statements: Record<typeof kind, string> = {
    'uses the image': 'the adapter uses its image',
    unclear: 'it is not clear whether the adapter uses its image',
    harms: 'with the adapter, predictions are worse than without it',
    'ignores the image': 'the adapter has learnt, but the same from every image',
    'does not use the image yet': 'the adapter does not use its image yet',
  };
  const causes = kind === 'uses the image' || kind === 'unclear' ? [] : causesOf(kind, report, step, earlier);
  const likely = causes.length === 0 ? '' : `. Likely causes, in this order: ${causes.join('; ')}`;
  return { kind, text: `Step ${step}: ${statements[kind]}. ${figures}${likely}` };
}

/** Returns likely causes: first those that the figures show, then the usual ones. */
function causesOf(
  kind: 'harms' | 'ignores the image' | 'does not use the image yet',
  { loss, feature_spread: spread }: GainReport,
  step: number,
  earlier: { step: number; report: GainReport } | undefined,
): string[] {
  const before = earlier?.report.loss.right;
  const standsStill = before !== undefined && Math.abs(loss.right - before) <= STANDSTILL * before;
  const isDestroyed = loss.right > DESTROYED * loss.base;
  const tooLow = 'a learning rate that is too low';
  const tooHigh = 'a learning rate that is too high';
  const pairs =
    'reference images that do not belong to their rows (look at the columns for image and reference image)';
  const usual = {
    harms: [tooHigh, 'captions or images unlike those of the model', pairs],
    'ignores the image': [
      pairs,
      'an image encoder that does not fit the data, such as one for faces',
      tooLow,
    ],
    'does not use the image yet': [tooLow, pairs, 'too few held-out rows to tell'],
  }[kind];
  const causes = [
    ...(spread < SMALLEST_SPREAD
      ? [
          `reference images that all look the same to the image encoder: its features differ by ${(100 * spread).toFixed(3)} % of their size`,
        ]
      : []),
    ...(standsStill
      ? [`weights that stand still: the loss is that of step ${earlier?.step}; ${tooLow}`]
      : []),
    ...(isDestroyed
      ? [`${tooHigh}: the loss is ${(loss.right / loss.base).toFixed(1)} times that of the base model`]
      : []),
    ...(step < EARLY_STEPS && !isDestroyed && !standsStill && spread >= SMALLEST_SPREAD
      ? ['usual in the first steps, while the new layers are still random']
      : []),
  ];
  const isNamed = (cause: string): boolean => causes.some((named) => named.includes(cause));
  return [...causes, ...usual.filter((cause) => !isNamed(cause))];
}

/** Returns a statement where the text hardly counts beside an image, though the base model uses it; else null. */
export function textStatement({ text: { adapter, base } }: GainReport, step: number): Statement | null {
  if (base.low <= 0 || adapter.high >= TEXT_LEFT * base.mean) return null;
  return {
    kind: 'ignores the text',
    text: `Step ${step}: beside an image, the text is being ignored. With another row's text the loss is higher by ${shown(adapter)}, without adapter by ${shown(base)} (95 % intervals). Likely causes, in this order: captions that say no more than the image; too long a training; a learning rate that is too high. Generate with a lower --scale`,
  };
}

/** Returns a statement where most images copy their reference; else null. */
export function copyStatement({ adapter: { copies } }: ScoresEvent, step: number): Statement | null {
  if (copies.low <= COPIES) return null;
  return {
    kind: 'copies',
    text: `Step ${step}: the adapter copies. ${(100 * copies.mean).toFixed(0)} % of the generated images have the pixels of their reference (interval ${(100 * copies.low).toFixed(0)} … ${(100 * copies.high).toFixed(0)} %), and CLIP-I rewards that. Where variations are wanted: an earlier checkpoint, a lower --scale, or references that are other images of the same thing`,
  };
}

function shown({ mean, low, high }: Interval): string {
  return `${mean.toFixed(4)} (${low.toFixed(4)} … ${high.toFixed(4)})`;
}
