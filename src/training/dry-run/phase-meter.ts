/** @file Measures time and memory of the phases of a step. */
import { type Device, memoryStats, resetMemoryPeak, synchronize } from '../../torch/index.js';

export interface PhaseMeasures {
  /** Sum over all runs of the phase. */
  seconds: number;
  /**
   * Peak bytes of all tensors on the device (on the CPU, of blocks of 64 KiB and more); null on a GPU where the addon was
   * built without CUDA's headers.
   */
  tensorBytes: number | null;
}

/** Measures phases from its construction on. The device is synchronized before and after each phase. */
export class PhaseMeter {
  readonly #device: Device;
  readonly #phases = new Map<string, PhaseMeasures>();
  readonly #start: number;
  #mostBytes: number | null = null;

  constructor(device: Device) {
    this.#device = device;
    synchronize(device);
    resetMemoryPeak(device);
    this.#start = performance.now();
  }

  /** Runs `work` as a phase. Phases cannot be nested. */
  readonly around = <T>(phase: string, work: () => T): T => {
    this.#read();
    const start = performance.now();
    const result = work();
    const tensorBytes = this.#read();
    const before = this.#phases.get(phase);
    this.#phases.set(phase, {
      seconds: (before?.seconds ?? 0) + (performance.now() - start) / 1000,
      tensorBytes: larger(before?.tensorBytes ?? null, tensorBytes),
    });
    return result;
  };

  /** Returns undefined for a phase that was not run. */
  phase(name: string): PhaseMeasures | undefined {
    return this.#phases.get(name);
  }

  /** Returns the measures from construction until now, in the phases and between them. */
  total(): PhaseMeasures {
    this.#read();
    return { seconds: (performance.now() - this.#start) / 1000, tensorBytes: this.#mostBytes };
  }

  /** Returns the peak bytes since the last call. */
  #read(): number | null {
    synchronize(this.#device);
    const { cpuPeakBytes, gpuPeakBytes } = memoryStats(this.#device);
    const bytes = this.#device === 'cpu' ? cpuPeakBytes : gpuPeakBytes;
    resetMemoryPeak(this.#device);
    this.#mostBytes = larger(this.#mostBytes, bytes);
    return bytes;
  }
}

function larger(a: number | null, b: number | null): number | null {
  return a === null || b === null ? (a ?? b) : Math.max(a, b);
}
