/** @file Measures the time and memory of the phases of a step. */
import { type Device, memoryStats, resetMemoryPeak, synchronize } from '../../torch/index.js';

export interface PhaseMeasures {
  /** The sum over all runs of the phase. */
  seconds: number;
  /**
   * Peak bytes of all tensors on the device (on the CPU, of blocks of 64 KiB and more); null on a GPU where the addon was
   * built without CUDA's headers.
   */
  tensorBytes: number | null;
}

/** Measures phases, and the total since its construction. It waits for the device at the start and end of each phase. */
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

  /** Runs `work` as a phase and measures it. Phases must not be nested. */
  readonly measure = <T>(phase: string, work: () => T): T => {
    this.#read();
    const start = performance.now();
    const result = work();
    const tensorBytes = this.#read();
    const earlier = this.#phases.get(phase);
    this.#phases.set(phase, {
      seconds: (earlier?.seconds ?? 0) + (performance.now() - start) / 1000,
      tensorBytes: larger(earlier?.tensorBytes ?? null, tensorBytes),
    });
    return result;
  };

  /** Returns the measures of a phase; undefined if it was not run. */
  phase(name: string): PhaseMeasures | undefined {
    return this.#phases.get(name);
  }

  /** Returns the measures from the construction until now, in the phases and between them. */
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
