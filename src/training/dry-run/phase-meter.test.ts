import { expect, it } from 'vitest';
import { memoryStats, type Tensor, tidy, zeros } from '../../torch/index.js';
import { PhaseMeter } from './phase-meter.js';

const MIB = 2 ** 20;
/** So many MiB for as long as the scope lasts. */
const take = (mib: number): Tensor => zeros([(mib * MIB) / 4]);

it('knows the most of each phase, and of what lies between them', () => {
  const base = memoryStats().cpuAllocatedBytes;
  const meter = new PhaseMeter('cpu');
  tidy(() => {
    meter.measure('a', () => tidy(() => void take(8)));
    tidy(() => void take(32));
    meter.measure('b', () => tidy(() => void take(4)));
    const kept = meter.measure('b', () => take(16));
    meter.measure('c', () => {});
    kept.dispose();
  });
  const mib = (name: string): number => ((meter.phase(name)?.tensorBytes as number) - base) / MIB;
  expect([mib('a'), mib('b'), mib('c')]).toEqual([8, 16, 16]);
  expect(((meter.total().tensorBytes as number) - base) / MIB).toBe(32);
  expect(meter.phase('d')).toBeUndefined();
});

it('adds up the time of a phase that comes again', () => {
  const wait = (ms: number): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
  const meter = new PhaseMeter('cpu');
  for (let i = 0; i < 3; i++) meter.measure('a', () => wait(20));
  wait(50);
  const seconds = meter.phase('a')?.seconds as number;
  expect(seconds).toBeGreaterThanOrEqual(0.058);
  expect(meter.total().seconds - seconds).toBeGreaterThanOrEqual(0.049);
});
