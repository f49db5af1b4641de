/** @file Seconds and memory by the phases of a step. */
import { type Device, memoryStats, resetMemoryPeak, synchronize } from '../../torch/index.js';

export interface PhaseMeasures {
  /** The sum, where a step has a phase several times. */
  seconds: number;
  /**
   * Bytes of all tensors on the device, the most that were in use at a time (on the CPU in blocks of 64 KiB and more); null
   * on a GPU where the addon was built without CUDA's headers.
   */
  tensorBytes: number | null;
}

/** Measures phases from its making on. The device is waited for at both ends of each. */
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

  /** Runs `work` as a phase. Phases do not lie in one another. */
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

  /** Undefined of a phase that was not run. */
  phase(name: string): PhaseMeasures | undefined {
    return this.#phases.get(name);
  }

  /** From the making until now, in the phases and between them. */
  total(): PhaseMeasures {
    this.#read();
    return { seconds: (performance.now() - this.#start) / 1000, tensorBytes: this.#mostBytes };
  }

  /** The most bytes since the last reading. */
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
