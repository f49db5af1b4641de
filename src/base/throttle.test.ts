import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Throttle } from './throttle.js';

beforeEach(() => void vi.useFakeTimers({ toFake: ['performance'] }));
afterEach(() => void vi.useRealTimers());

it('is due once in an interval, the first time at its end', () => {
  const throttle = new Throttle(100);
  const due = [99, 1, 50, 49, 200, 99].map((ms) => {
    vi.advanceTimersByTime(ms);
    return throttle.isDue();
  });
  expect(due).toEqual([false, true, false, false, true, false]);
});

it('looking does not begin an interval, restarting does', () => {
  const throttle = new Throttle(100);
  vi.advanceTimersByTime(120);
  expect([throttle.isOver, throttle.isOver]).toEqual([true, true]);
  expect(throttle.restart()).toBe(120);
  expect(throttle.isOver).toBe(false);
});
