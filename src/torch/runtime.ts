/** @file The process as a whole: which LibTorch, how many threads, how much memory. */
import { zeros } from './creation.js';
import { native } from './native.js';
import { tidy } from './scope.js';
import type { Device } from './tensor.js';

/** The LibTorch that the addon was built against, such as '1.13.0'. */
export const torchVersion: string = native.torchVersion;

export function hasCuda(): boolean {
  return native.hasCuda();
}

/** How many threads an operator uses on the CPU. Default: every core. */
export function setNumThreads(n: number): void {
  native.setNumThreads(n);
}

export interface MemoryStats {
  /** Tensors that TypeScript holds. */
  liveTensors: number;
  /** Bytes of CPU tensors in use (blocks of 64 KiB and more). */
  cpuAllocatedBytes: number;
  /** The highest that has been since the last `resetMemoryPeak`. */
  cpuPeakBytes: number;
  /** Bytes of freed CPU blocks that are kept for reuse. */
  cpuCachedBytes: number;
}

export function memoryStats(): MemoryStats {
  return { liveTensors: native.liveTensors(), ...native.memory() };
}

/** From now on `cpuPeakBytes` is the highest that there will be. */
export function resetMemoryPeak(): void {
  native.resetCpuPeak();
}

/** Waits until a device has done all that it was given; a CPU has at once. */
export function synchronize(device: Device): void {
  // A GPU works in order, so what is asked for last is known last.
  tidy(() => void zeros([], { device }).item());
}

/** Gives the kept CPU blocks back to the system. */
export function trimMemory(): void {
  native.trimCpuMemory();
}
