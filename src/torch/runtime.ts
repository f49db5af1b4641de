/** @file Settings and measures of the whole process: LibTorch's version, threads, memory. */
import { availableParallelism } from 'node:os';
import { ConfigError } from '../base/errors.js';
import { zeros } from './creation.js';
import { native } from './native.js';
import { tidy } from './scope.js';
import type { Device, Tensor } from './tensor.js';

/** The addon's limit. */
const MAX_THREADS = 1024;

export interface DeviceTuning {
  /** Whether a GPU may multiply float32 with TF32's 10-bit mantissa, which is several times as fast. */
  allowTF32: boolean;
}

/** Returns the version of LibTorch that the addon was built with, such as '1.13.0'. */
export function torchVersion(): string {
  return native().torchVersion;
}

/** Returns the number of CUDA GPUs that LibTorch finds; 0 if it is built without CUDA. */
export function cudaDevices(): number {
  return native().cudaDevices();
}

/** Lets cuDNN choose the fastest algorithm for each shape of a convolution, and sets TF32. For the whole process. */
export function tuneCuda({ allowTF32 }: DeviceTuning): void {
  native().tuneCuda(allowTF32);
}

/**
 * Sets the number of threads of operators on the CPU. Default: all cores.
 * @throws ConfigError where `n` is not an integer from 1 to 1024
 */
export function setNumThreads(n: number): void {
  if (!Number.isInteger(n) || n < 1 || n > MAX_THREADS)
    throw new ConfigError(
      `--threads is ${n}; it must be an integer from 1 to ${MAX_THREADS}. This machine has ${availableParallelism()} cores.`,
    );
  native().setNumThreads(n);
}

/**
 * Sets whether tensors of files that are opened from now on map the file, which saves memory, or are copies, which no other
 * process can change. For the whole process; default: true.
 */
export function setFileMapping(on: boolean): void {
  native().setFileMapping(on);
}

export interface MemoryStats {
  /** The number of tensors that TypeScript holds. */
  liveTensors: number;
  /** The bytes of CPU tensors in use (blocks of 64 KiB and more). */
  cpuAllocatedBytes: number;
  /** The peak of `cpuAllocatedBytes` since the last `resetMemoryPeak`. */
  cpuPeakBytes: number;
  /** The bytes of freed CPU blocks that are kept for reuse. */
  cpuCachedBytes: number;
  /** The bytes of tensors on the GPU; null on the CPU, and if the addon was built without CUDA's headers. */
  gpuAllocatedBytes: number | null;
  /** The peak of `gpuAllocatedBytes` since the last `resetMemoryPeak`. */
  gpuPeakBytes: number | null;
}

/** Returns the memory in use. @param device the device whose GPU memory is included */
export function memoryStats(device: Device = 'cpu'): MemoryStats {
  const { cuda } = native();
  const gpu =
    device === 'cpu' || cuda === null
      ? { gpuAllocatedBytes: null, gpuPeakBytes: null }
      : cuda.gpuMemory(device);
  return { liveTensors: native().liveTensors(), ...native().memory(), ...gpu };
}

/** Resets the peaks of the CPU and the device to their current values. */
export function resetMemoryPeak(device: Device = 'cpu'): void {
  native().resetCpuPeak();
  if (device !== 'cpu') native().cuda?.resetGpuPeak(device);
}

/** Waits until a device has done all queued work. A CPU has no queue. */
export function synchronize(device: Device): void {
  // A GPU works in order: when the last value is known, all work before it is done.
  tidy(() => void zeros([], { device }).item());
}

/**
 * Takes what these parameters have in mapped files out of the process's resident memory. The values stay: the next use maps
 * them again from the system's file cache, without reading the disk where that still has them. Tensors that are copies, on
 * a GPU, or were written to, are left alone.
 */
export function releasePages(...parts: readonly { parameters(): Tensor[] }[]): void {
  native().releasePages(parts.flatMap((part) => part.parameters().map(({ handle }) => handle)));
}

/** Returns cached CPU blocks to the system. */
export function trimMemory(): void {
  native().trimCpuMemory();
}
