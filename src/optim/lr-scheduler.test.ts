import { describe, expect, it } from 'vitest';
import { ConfigError } from '../base/errors.js';
import { dependsOnTotal, lrSchedule, lrSchedulers, type ScheduleOptions } from './lr-scheduler.js';

const learningRate = 2e-3;

function rates(name: ScheduleOptions['name'], options: Partial<ScheduleOptions>, count: number): number[] {
  const schedule = lrSchedule({
    ...{ name, learningRate, warmupSteps: 0, totalSteps: 10, numCycles: 1, power: 1 },
    ...options,
  });
  return Array.from({ length: count }, (_, step) => learningRate * schedule(step));
}

// Learning rates of torch.optim.lr_scheduler.LambdaLR with diffusers' formulas, including steps after the last.
const warmUp = [0, 0.000666666666667, 0.00133333333333, 0.002];
const published: [ScheduleOptions['name'], Partial<ScheduleOptions>, number[]][] = [
  ['constant', { warmupSteps: 3 }, [0.002, 0.002, 0.002, 0.002, 0.002]],
  ['constant_with_warmup', { warmupSteps: 3 }, [...warmUp, 0.002, 0.002]],
  [
    'linear',
    { warmupSteps: 3 },
    [
      ...[...warmUp, 0.00171428571429, 0.00142857142857, 0.00114285714286, 0.000857142857143],
      ...[0.000571428571429, 0.000285714285714, 0, 0, 0],
    ],
  ],
  ['linear', { totalSteps: 4 }, [0.002, 0.0015, 0.001, 0.0005, 0, 0]],
  [
    'linear',
    { warmupSteps: 6, totalSteps: 6 },
    [0, 0.000333333333333, 0.000666666666667, 0.001, 0.00133333333333, 0.00166666666667, 0, 0],
  ],
  [
    'cosine',
    { warmupSteps: 3 },
    [
      ...[...warmUp, 0.0019009688679, 0.00162348980186, 0.00122252093396, 0.000777479066044],
      ...[0.000376510198141, 9.90311320976e-5, 0, 9.90311320976e-5, 0.000376510198141],
    ],
  ],
  [
    'cosine_with_restarts',
    { warmupSteps: 2, totalSteps: 11, numCycles: 3 },
    [0, 0.001, 0.002, 0.0015, 0.0005, 0.002, 0.0015, 0.0005, 0.002, 0.0015, 0.0005, 0, 0, 0],
  ],
  [
    'polynomial',
    { warmupSteps: 3 },
    [...warmUp, 0.0017143, 0.0014286, 0.0011429, 0.0008572, 0.0005715, 0.0002858, 1e-7, 1e-7, 1e-7],
  ],
  [
    'polynomial',
    { warmupSteps: 2, totalSteps: 8, power: 2.5 },
    [
      ...[0, 0.001, 0.002, 0.00126791289671, 0.000725838449865, 0.000353635712924, 0.000128393644817],
      ...[2.27793265583e-5, 1e-7, 1e-7, 1e-7],
    ],
  ],
  [
    'polynomial',
    { totalSteps: 4, power: 0.5 },
    [0.002, 0.00173206420503, 0.00141424285169, 0.00100005, 1e-7, 1e-7],
  ],
];

describe('lrSchedule', () => {
  it.each(published)('%s %j', (name, options, expected) => {
    for (const [step, rate] of rates(name, options, expected.length).entries())
      expect(Math.abs(rate - (expected[step] as number)), `step ${step}`).toBeLessThan(1e-13);
  });

  it('rises during the whole run if the warm-up is longer', () => {
    for (const name of lrSchedulers.filter((name) => name !== 'constant'))
      expect(rates(name, { warmupSteps: 20, totalSteps: 4 }, 4)).toEqual([0, 1e-4, 2e-4, 3e-4]);
  });

  it('refuses a polynomial schedule that would rise', () => {
    expect(() => rates('polynomial', { learningRate: 1e-7 }, 1)).toThrow(ConfigError);
    expect(() => rates('polynomial', { learningRate: 1e-7 }, 1)).toThrow(/above 1e-7.*received 1e-7/);
  });

  it('tells which schedules depend on the length of the run', () => {
    for (const name of lrSchedulers) {
      const [short, long] = [{ totalSteps: 10 }, { totalSteps: 20 }].map((length) => rates(name, length, 8));
      expect(dependsOnTotal(name), name).toBe(String(short) !== String(long));
    }
  });
});
