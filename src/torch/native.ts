/**
 * @file Loads the native addon at its first use, not at import. It builds the addon if it is missing, and explains what to
 * do if it cannot be built or loaded.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { locateAddon, SetupError } from '../../tools/build-native.mjs';
import { ConfigError } from '../base/errors.js';
import { memoryLimit } from './memory-limit.js';

const buildScript = fileURLToPath(new URL('../../tools/build-native.mjs', import.meta.url));

/** The addon's handle of a tensor: a slot and a generation in one number. */
export type RawHandle = number;

/** The functions that the addon exports; they are documented in native/. */
interface Native {
  torchVersion: string;
  setNumThreads(n: number): void;
  getNumThreads(): number;
  cudaDevices(): number;
  tuneCuda(allowTF32: boolean): { matmulTF32: boolean; convolutionTF32: boolean };
  /** Null where the addon was built without CUDA's headers. */
  cuda: NativeCuda | null;
  /** Null where LibTorch has no c10d with Gloo. */
  distributed: NativeDistributed | null;
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
  releasePages(handles: readonly RawHandle[]): void;
  setFileMapping(on: boolean): void;
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
  setMemoryLimit(bytes: number, usageFile: string, statFile: string): void;
  resetCpuPeak(): void;
  resample(rgb: Uint8Array, width: number, columns: object, rows: object): Uint8Array;
  resampleAsync(rgb: Uint8Array, width: number, columns: object, rows: object): Promise<Uint8Array>;
  writePlanar(images: readonly (Uint8Array | null)[], table: Float32Array, out: RawHandle): void;
  jpegLibrary(): string | null;
  jpegSize(bytes: Uint8Array): [width: number, height: number] | null;
  cropJpeg(bytes: Uint8Array, shrink: number, crops: readonly object[]): Promise<Uint8Array[] | null>;
}

/** A copy to the host that may not be finished yet. */
export interface PendingRead {
  readonly __brand: 'PendingRead';
}

/** A store of keys that processes share. */
export interface NativeStore {
  readonly __brand: 'NativeStore';
}

/** Processes that are connected by a backend. */
export interface NativeGroup {
  readonly __brand: 'NativeGroup';
}

interface RankOptions {
  rank: number;
  worldSize: number;
  /** In ms. */
  timeout: number;
}

export interface NativeDistributed {
  hasNCCL: boolean;
  openStore(
    options: RankOptions & {
      file: string;
      host: string;
      port: number;
      isServer: boolean;
      prefix: string;
      self: string;
    },
  ): Promise<[store: NativeStore, members: string[]]>;
  storeSet(store: NativeStore, key: string, text: string): Promise<void>;
  storeFind(store: NativeStore, key: string): Promise<string | null>;
  createGroup(
    store: NativeStore,
    options: RankOptions & { backend: string; address: string; interface: string },
  ): Promise<NativeGroup>;
  allReduce(group: NativeGroup, handle: RawHandle, operation: 'sum' | 'max'): Promise<void>;
  broadcast(group: NativeGroup, handle: RawHandle, root: number): Promise<void>;
  allGather(group: NativeGroup, handle: RawHandle): Promise<RawHandle[]>;
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

let addon: Native | undefined;

/** Returns the addon. The first call loads it together with LibTorch, and builds it if this machine does not have it yet. */
export function native(): Native {
  addon ??= load();
  return addon;
}

function load(): Native {
  const path = builtAddon();
  // An idle OpenMP thread spins for milliseconds before it sleeps. If another process is busy, the spinning threads take the
  // cores that the working threads need, and a step takes twenty times as long. A short spin costs next to nothing.
  // OpenMP reads the variable when LibTorch is loaded.
  if (process.env.OMP_WAIT_POLICY === undefined) process.env.GOMP_SPINCOUNT ??= '1000';
  let loaded: Native;
  try {
    loaded = createRequire(import.meta.url)(path) as Native;
  } catch (cause) {
    throw new ConfigError(
      `The native addon ${path} does not load: ${(cause as Error).message}. LibTorch or Node.js may have been replaced since it was built. Build it again with: ip-adapter build --force`,
      { cause },
    );
  }
  loaded.installCpuAllocator();
  const limit = memoryLimit();
  if (limit !== null) loaded.setMemoryLimit(limit.bytes, limit.usageFile, limit.statFile);
  // By default, LibTorch does not use every core on all machines.
  if (process.env.OMP_NUM_THREADS === undefined) loaded.setNumThreads(availableParallelism());
  return loaded;
}

function builtAddon(): string {
  try {
    const { path, isBuilt } = locateAddon();
    if (isBuilt) return path;
    // In a child process, since this thread has to wait. Messages go to stderr; stdout is for the result of a command.
    const { status } = spawnSync(process.execPath, [buildScript], { stdio: ['ignore', 2, 2] });
    if (status === 0) return path;
  } catch (cause) {
    if (cause instanceof SetupError) throw new ConfigError(cause.message, { cause });
    throw cause;
  }
  throw new ConfigError(
    'The native addon could not be built; the messages above say why. `ip-adapter doctor` lists what is missing.',
  );
}
