import { describe, expect, it } from 'vitest';
import { expectAllclose } from '../../test/golden.js';
import { cat, Generator, memoryStats, randn, type Tensor, tidy } from '../torch/index.js';
import { type GuidanceSettings, guidedPrediction, type Side } from './guidance.js';

const generator = new Generator('cpu', 0);
const predictions = {
  negative: randn([2, 4, 8, 8], { generator }),
  positive: randn([2, 4, 8, 8], { generator }).mul(1.5),
};
let calls: (readonly Side[])[] = [];
const predict = (sides: readonly Side[]): Tensor => {
  calls.push(sides);
  return cat(sides.map((side) => predictions[side]));
};
const guided = (settings: GuidanceSettings, step = 0, total = 1): Tensor => {
  calls = [];
  return guidedPrediction(predict, settings, step, total);
};

describe('guidedPrediction', () => {
  it('is the prediction for the prompt alone without guidance', () => {
    for (const guidanceScale of [0, 1]) {
      expectAllclose(guided({ guidanceScale }), predictions.positive, 0);
      expect(calls).toEqual([['positive']]);
    }
  });

  it('calls the backbone once for both, or once for each, with the same result', () => {
    const together = guided({ guidanceScale: 5 });
    expect(calls).toEqual([['negative', 'positive']]);
    const inTurn = guided({ guidanceScale: 5, guidanceBatch: 'in-turn' });
    expect(calls).toEqual([['negative'], ['positive']]);
    expectAllclose(inTurn, together, 0);
    expectAllclose(together, predictions.negative.mul(-4).add(predictions.positive, 5), 1e-5);
  });

  it('acts only between start and end', () => {
    const callsOf = (guidanceRange: [number, number]) =>
      [0, 1, 2, 3, 4].map((step) => {
        guided({ guidanceScale: 5, guidanceRange }, step, 5);
        return calls[0]?.length;
      });
    expect(callsOf([0, 1])).toEqual([2, 2, 2, 2, 2]);
    expect(callsOf([0.2, 0.6])).toEqual([1, 2, 2, 1, 1]);
  });

  it('with a rescaling of 1 has the standard deviation of the prediction for the prompt, image by image', () => {
    // Of the numbers, as the paper defines it.
    const deviations = (tensor: Tensor) =>
      tensor.split(1).map((one) => {
        const values = one.toNumbers();
        const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
        return Math.sqrt(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
      });
    const plain = guided({ guidanceScale: 5 });
    const whole = guided({ guidanceScale: 5, guidanceRescale: 1 });
    const expected = deviations(predictions.positive);
    for (const [i, deviation] of deviations(whole).entries())
      expect(deviation).toBeCloseTo(expected[i] as number, 4);
    expect(deviations(plain)[0]).toBeGreaterThan(2 * (expected[0] as number));
    const part = guided({ guidanceScale: 5, guidanceRescale: 0.7 });
    expectAllclose(part, whole.mul(0.7).add(plain, 0.3), 1e-5);
  });

  it('leaves no tensors', () => {
    const before = memoryStats().liveTensors;
    tidy(() => guided({ guidanceScale: 5, guidanceRescale: 0.7, guidanceBatch: 'in-turn' })).dispose();
    expect(memoryStats().liveTensors).toBe(before);
  });
});
