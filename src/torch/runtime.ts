/** @file The process as a whole: which LibTorch, how many threads, how much memory. */
import { native } from './native.js';

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
  /** The highest that has been. */
  cpuPeakBytes: number;
  /** Bytes of freed CPU blocks that are kept for reuse. */
  cpuCachedBytes: number;
}

export function memoryStats(): MemoryStats {
  return { liveTensors: native.liveTensors(), ...native.memory() };
}

/** Gives the kept CPU blocks back to the system. */
export function trimMemory(): void {
  native.trimCpuMemory();
}
