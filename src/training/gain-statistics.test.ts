import { describe, expect, it } from 'vitest';
import { gainsOf } from './gain-statistics.js';

describe('gains', () => {
  const right = [0.5, 0.9, 0.1, 0.4];
  const more = (by: number) => right.map((loss, i) => loss + by + 0.001 * (i % 2));

  it('are differences within rows, whose own spread does not count', () => {
    const gains = gainsOf({ right, shuffled: more(0.03), none: more(0.02), base: more(0.01) });
    expect(gains.over_base.mean).toBeCloseTo(0.0105, 10);
    expect(gains.over_base.low).toBeGreaterThan(0.009);
    expect(gains.gain).toEqual(gains.over_base);
    expect(gains.loss.none - gains.loss.right).toBeCloseTo(gains.over_none.mean, 10);
  });

  it.each(['shuffled', 'none', 'base'] as const)(
    'the gain is not above 0 where the loss %s is as low',
    (name) => {
      const losses = { right, shuffled: more(0.03), none: more(0.02), base: more(0.01), [name]: right };
      expect(gainsOf(losses).gain).toEqual({ mean: 0, low: 0, high: 0 });
    },
  );
});
