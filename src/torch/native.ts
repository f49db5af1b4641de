/**
 * @file The one place that loads the native addon. Builds it at first use where it is missing, and explains
 * itself where it cannot be loaded.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';

/** A tensor, as the addon knows it: a slot and a generation in one number. */
export type RawHandle = number;

/** What native/ exports; see the comments there. */
interface Native {
  torchVersion: string;
  setNumThreads(n: number): void;
  getNumThreads(): number;
  cudaDevices(): number;
  tuneCuda(allowTF32: boolean): void;
  /** Null where the addon was built without CUDA's headers. */
  cuda: NativeCuda | null;
  findOperator(name: string, overload: string): [index: number, schema: string] | null;
  call(index: number, ...args: unknown[]): unknown;
  shape(handle: RawHandle): number[];
  strides(handle: RawHandle): number[];
  dtype(handle: RawHandle): number;
  device(handle: RawHandle): string;
  isMapped(handle: RawHandle): boolean;
  release(handles: RawHandle[]): void;
  liveTensors(): number;
  fromBytes(bytes: Uint8Array, dtype: number, shape: readonly number[]): RawHandle;
  toBytes(handle: RawHandle): ArrayBuffer;
  readLater(handle: RawHandle): PendingRead;
  finishRead(pending: PendingRead): ArrayBuffer;
  mapTensors(path: string, entries: [offset: number, dtype: number, shape: readonly number[]][]): RawHandle[];
  createGenerator(device: string, seed: number): number;
  getGeneratorState(generator: number): RawHandle;
  setGeneratorState(generator: number, state: RawHandle): void;
  releaseGenerator(generator: number): void;
  setGradEnabled(on: boolean): boolean;
  isGradEnabled(): boolean;
  requiresGrad(handle: RawHandle): boolean;
  setRequiresGrad(handle: RawHandle, on: boolean): void;
  grad(handle: RawHandle): RawHandle | null;
  setGrad(handle: RawHandle, grad: RawHandle | null): void;
  installCpuAllocator(): void;
  memory(): { cpuAllocatedBytes: number; cpuCachedBytes: number; cpuPeakBytes: number };
  trimCpuMemory(): void;
  setCpuCacheLimit(bytes: number): void;
  resetCpuPeak(): void;
  resample(rgb: Uint8Array, width: number, columns: object, rows: object): Uint8Array;
  resampleAsync(rgb: Uint8Array, width: number, columns: object, rows: object): Promise<Uint8Array>;
}

/** Values on their way to the host. */
export interface PendingRead {
  readonly __brand: 'PendingRead';
}

interface NativeCuda {
  beginCapture(device: string): void;
  endCapture(): number;
  abandonCapture(): void;
  replay(graph: number): void;
  releaseGraph(graph: number): void;
  gpuMemory(device: string): { gpuAllocatedBytes: number; gpuPeakBytes: number };
  resetGpuPeak(device: string): void;
}

const addonPath = fileURLToPath(new URL('../../build/ip_adapter.node', import.meta.url));
const buildScript = fileURLToPath(new URL('../../tools/build-native.mjs', import.meta.url));

function load(): Native {
  if (!existsSync(addonPath)) {
    // Output goes to stderr: a command's stdout is its result.
    const build = spawnSync(process.execPath, [buildScript], { stdio: ['ignore', 2, 2] });
    if (build.status !== 0)
      throw new Error('The native addon is not built, and building it failed; see the messages above.');
  }
  try {
    return createRequire(import.meta.url)(addonPath) as Native;
  } catch (cause) {
    throw new Error(
      `The native addon does not load: ${(cause as Error).message}\n` +
        'It was built for another LibTorch or another Node.js. Build it again: node tools/build-native.mjs --force',
      { cause },
    );
  }
}

// An idle OpenMP thread spins for milliseconds before it sleeps. Beside another busy process that takes the very
// core that the others wait for, and a step takes twenty times as long; a short spin costs nothing to speak of.
if (process.env.OMP_WAIT_POLICY === undefined) process.env.GOMP_SPINCOUNT ??= '1000';

export const native: Native = load();
native.installCpuAllocator();
// LibTorch by itself does not take every core on each machine.
if (process.env.OMP_NUM_THREADS === undefined) native.setNumThreads(availableParallelism());
