import { expect, it } from 'vitest';
import type { GainReport } from './gain.js';
import { type Condition, gainsOf } from './gain-statistics.js';
import { describeVerdict, type VerdictKind, verdictOf } from './verdict.js';

const right = [0.5, 0.9, 0.1, 0.4, 0.3];
/** Losses that are higher by so much than with the right image, and less so in every second row. */
const by = (difference: number): number[] =>
  right.map((loss, i) => loss + difference * (i % 2 === 0 ? 1 : 0.9));
const noisy = right.map((loss, i) => loss + (i % 2 === 0 ? 0.05 : -0.06));

const reportOf = (losses: Record<Exclude<Condition, 'right'>, number[]>): GainReport => ({
  rows: right.length,
  ...gainsOf({ right, ...losses }),
  bands: [],
  gauge: {},
});

it.each<[VerdictKind, GainReport]>([
  ['uses the image', reportOf({ none: by(0.02), base: by(0.01), shuffled: by(0.03) })],
  ['harms', reportOf({ none: by(0.02), base: by(-0.01), shuffled: by(0.03) })],
  ['ignores the image', reportOf({ none: by(0.02), base: by(0.01), shuffled: noisy })],
  ['ignores the image', reportOf({ none: by(0.02), base: by(0.01), shuffled: right })],
  ['unclear', reportOf({ none: by(0.02), base: noisy, shuffled: by(0.03) })],
  ['unclear', reportOf({ none: right, base: right, shuffled: right })],
])('%s', (kind, report) => {
  expect(verdictOf(report)).toBe(kind);
  expect(describeVerdict(kind, report, 200)).toMatch(
    /^Step 200: .* On 5 held-out rows the loss is 0\.4400 with/,
  );
});

it('says that a bad beginning is usual, and later that it is not', () => {
  const report = reportOf({ none: by(0.02), base: by(-0.01), shuffled: by(0.03) });
  expect(describeVerdict('harms', report, 50)).toContain('in this order: usual in the first steps');
  expect(describeVerdict('harms', report, 5000)).toContain('in this order: a learning rate that is too high');
});
