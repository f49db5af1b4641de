/** @file The process as a whole: which LibTorch, how many threads, how much memory. */
import { availableParallelism } from 'node:os';
import { ConfigError } from '../base/errors.js';
import { zeros } from './creation.js';
import { native } from './native.js';
import { tidy } from './scope.js';
import type { Device } from './tensor.js';

/** The addon's own limit. */
const MAX_THREADS = 1024;

export interface DeviceTuning {
  /** Whether a GPU may multiply float32 with TF32's 10 bits of mantissa, which is several times as fast. */
  allowTF32: boolean;
}

/** Returns the LibTorch that the addon was built against, such as '1.13.0'. */
export function torchVersion(): string {
  return native().torchVersion;
}

/** How many CUDA GPUs LibTorch finds; 0 where it is built without CUDA. */
export function cudaDevices(): number {
  return native().cudaDevices();
}

/** Has a GPU try cuDNN's algorithms for each shape of a convolution, and keep the fastest. For the whole process. */
export function tuneCuda({ allowTF32 }: DeviceTuning): void {
  native().tuneCuda(allowTF32);
}

/**
 * Sets how many threads an operator uses on the CPU. Default: every core.
 * @throws ConfigError where it is no integer from 1 to 1024
 */
export function setNumThreads(n: number): void {
  if (!Number.isInteger(n) || n < 1 || n > MAX_THREADS)
    throw new ConfigError(
      `--threads is ${n}; it must be an integer from 1 to ${MAX_THREADS}. This machine has ${availableParallelism()} cores.`,
    );
  native().setNumThreads(n);
}

/**
 * Decides whether tensors of files that are opened from now on lie in the file's own pages, which saves their memory, or
 * are copies, which nobody can change. For the whole process; default: true.
 */
export function setFileMapping(on: boolean): void {
  native().setFileMapping(on);
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
  /** Bytes of the tensors on the GPU; null on the CPU, and where the addon was built without CUDA's headers. */
  gpuAllocatedBytes: number | null;
  /** The highest that has been since the last `resetMemoryPeak`. */
  gpuPeakBytes: number | null;
}

/** @param device the GPU to tell of */
export function memoryStats(device: Device = 'cpu'): MemoryStats {
  const { cuda } = native();
  const gpu =
    device === 'cpu' || cuda === null
      ? { gpuAllocatedBytes: null, gpuPeakBytes: null }
      : cuda.gpuMemory(device);
  return { liveTensors: native().liveTensors(), ...native().memory(), ...gpu };
}

/** From now on the peaks of CPU and device are the highest that there will be. */
export function resetMemoryPeak(device: Device = 'cpu'): void {
  native().resetCpuPeak();
  if (device !== 'cpu') native().cuda?.resetGpuPeak(device);
}

/** Waits until a device has done all queued work; a CPU has no queue. */
export function synchronize(device: Device): void {
  // A GPU works in order, so what is asked for last is known last.
  tidy(() => void zeros([], { device }).item());
}

/** Returns the kept CPU blocks to the system. */
export function trimMemory(): void {
  native().trimCpuMemory();
}
