import { expect, it } from 'vitest';
import { LossByTimestep } from './loss-by-timestep.js';

it('keeps the losses of ten ranges of timesteps apart', () => {
  const losses = new LossByTimestep(1000);
  expect(losses.scalars()).toEqual({});
  losses.add([5, 1, 3], [0, 100, 999]);
  losses.add([7], [99]);
  const found = losses.scalars();
  expect(Object.keys(found)).toEqual([
    'loss_by_timestep/000-099',
    'loss_by_timestep/100-199',
    'loss_by_timestep/900-999',
  ]);
  expect(found['loss_by_timestep/000-099']).toBeCloseTo((5 * 0.99 + 7) / 1.99, 12);
  expect(found['loss_by_timestep/100-199']).toBeCloseTo(1, 12);
  expect(found['loss_by_timestep/900-999']).toBeCloseTo(3, 12);
});

it('names every timestep of a model with another number of them once', () => {
  const losses = new LossByTimestep(25);
  losses.add(
    Array.from({ length: 25 }, (_, t) => t),
    Array.from({ length: 25 }, (_, t) => t),
  );
  const ranges = Object.entries(losses.scalars()).map(([name, value]) => {
    const [first = -1, last = -1] = name.replace(/.*\//, '').split('-').map(Number);
    expect(value).toBeGreaterThanOrEqual(first);
    expect(value).toBeLessThanOrEqual(last);
    return [first, last] as const;
  });
  expect(ranges[0]?.[0]).toBe(0);
  expect(ranges.at(-1)?.[1]).toBe(24);
  for (const [i, [first]] of ranges.entries()) if (i > 0) expect(first).toBe((ranges[i - 1]?.[1] ?? 0) + 1);
});
