import { describe, expect, it } from 'vitest';
import type { ScoresEvent, VerdictEvent } from '../base/run-context.js';
import { interval, shareInterval } from '../base/statistics.js';
import type { GainReport } from './gain.js';
import { type Condition, gainsOf } from './gain-statistics.js';
import { copyStatement, imageStatement, textStatement, verdictOf } from './verdict.js';

const right = [0.5, 0.9, 0.1, 0.4, 0.3];
/** Losses that are higher by so much than with the right image, and less so in every second row. */
const by = (difference: number): number[] =>
  right.map((loss, i) => loss + difference * (i % 2 === 0 ? 1 : 0.9));
const noisy = right.map((loss, i) => loss + (i % 2 === 0 ? 0.05 : -0.06));

const reportOf = (
  losses: Record<Exclude<Condition, 'right'>, number[]>,
  more: Partial<GainReport> = {},
): GainReport => ({
  rows: right.length,
  ...gainsOf({ right, ...losses }),
  bands: [],
  gauge: {},
  text: { adapter: interval([0.1, 0.11]), base: interval([0.1, 0.11]) },
  feature_spread: 0.5,
  seconds: 1,
  ...more,
});
const learns = { none: by(0.02), base: by(0.01), shuffled: by(0.03) };
const nothing = { none: right, base: right, shuffled: right };

describe('of the image', () => {
  it.each<[VerdictEvent['kind'], GainReport]>([
    ['uses the image', reportOf(learns)],
    ['harms', reportOf({ ...learns, base: by(-0.01) })],
    ['ignores the image', reportOf({ ...learns, shuffled: noisy })],
    ['ignores the image', reportOf({ ...learns, shuffled: right })],
    ['unclear', reportOf({ ...learns, base: noisy })],
    ['unclear', reportOf(nothing)],
  ])('%s', (kind, report) => {
    expect(verdictOf(report)).toBe(kind);
    const early = imageStatement(report, 100, undefined);
    expect(early.kind).toBe(kind);
    expect(early.text).toMatch(/^Step 100: .* On 5 held-out rows the loss is 0\.4400 with/);
    // What is unclear late is a run that does not use its image.
    expect(imageStatement(report, 200, undefined).kind).toBe(
      kind === 'unclear' ? 'does not use the image yet' : kind,
    );
  });

  const causes = (report: GainReport, step: number, before?: GainReport): string[] =>
    (
      imageStatement(report, step, before && { step: 50, report: before }).text.split('in this order: ')[1] ??
      ''
    ).split('; ');

  it('names first what the figures show', () => {
    expect(causes(reportOf(nothing), 200, reportOf(nothing))[0]).toMatch(
      /^weights that stand still.*step 50/,
    );
    expect(causes(reportOf(nothing, { feature_spread: 0 }), 200)[0]).toMatch(/all look the same/);
    const burnt = reportOf({ ...learns, base: right.map((loss) => loss / 2) });
    expect(causes(burnt, 100)[0]).toMatch(/^a learning rate that is too high: the loss is 2.0 times/);
    expect(causes(burnt, 100).filter((cause) => cause.includes('too high'))).toHaveLength(1);
  });

  it('says that a bad beginning is usual, and later that it is not', () => {
    const report = reportOf({ ...learns, base: by(-0.01) });
    expect(causes(report, 50)[0]).toMatch(/^usual in the first steps/);
    expect(causes(report, 5000)[0]).toBe('a learning rate that is too high');
  });
});

it('the text is ignored where little of what it says to the base model is left', () => {
  const report = (left: number[], base = [0.1, 0.11, 0.12]) =>
    reportOf(learns, { text: { adapter: interval(left), base: interval(base) } });
  expect(textStatement(report([0.001, 0.002, 0.0015]), 500)?.kind).toBe('ignores the text');
  expect(textStatement(report([0.05, 0.06, 0.05]), 500)).toBeNull();
  // A base model that does not use the captions says nothing of the adapter.
  expect(textStatement(report([0, 0, 0], [-0.1, 0.1, 0.05]), 500)).toBeNull();
});

it('an adapter copies where surely more than half of the images do', () => {
  const event = (copies: number): ScoresEvent =>
    ({ adapter: { copies: shareInterval(copies, 32) } }) as unknown as ScoresEvent;
  expect(copyStatement(event(0.8), 500)?.text).toContain('80 % of the generated images');
  expect(copyStatement(event(0.6), 500)).toBeNull();
});
