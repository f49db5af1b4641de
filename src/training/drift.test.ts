import { expect, it } from 'vitest';
import { DriftWatch } from './drift.js';

/** Kinds of statements by step. */
function watch(
  steps: number,
  of: (step: number) => { loss: number; grad_norm: number },
  rowsPerStep = 16,
): [number, string][] {
  const drift = new DriftWatch(rowsPerStep);
  return Array.from({ length: steps }, (_, i) => i + 1).flatMap((step) =>
    drift.add({ step, ...of(step) }).map(({ kind }): [number, string] => [step, kind]),
  );
}
/** Between 0.5 and 1.5, as a loss of random timesteps. */
const spread = (step: number): number => 0.5 + ((step * 0.618034) % 1);

it('is silent over a loss that only varies', () => {
  expect(watch(2000, (step) => ({ loss: spread(step), grad_norm: 3 * spread(step) }))).toEqual([]);
});

it('notices a loss that rises, and a norm', () => {
  const rising = watch(400, (step) => ({ loss: (step > 200 ? 1.8 : 1) * spread(step), grad_norm: 1 }));
  expect(rising).toEqual([
    [300, 'loss drifts'],
    [400, 'loss drifts'],
  ]);
  expect(watch(300, (step) => ({ loss: 1, grad_norm: step > 200 ? 11 : 1 }))).toEqual([[300, 'norm drifts']]);
  // A single jump is no drift of a median.
  expect(watch(300, (step) => ({ loss: 1, grad_norm: step === 250 ? 1e6 : 1 }))).toEqual([]);
});

it('takes more steps where a step has few rows', () => {
  const jump = (step: number) => ({ loss: step > 1600 ? 2 : 1, grad_norm: 1 });
  expect(watch(3200, jump, 1)).toEqual([[3200, 'loss drifts']]);
});
