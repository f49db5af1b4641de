/** @file What a measuring process, ours or Python's, prints as JSON. */

export const phases = ['VAE', 'image encoder', 'text encoder', 'UNet forward', 'backward', 'AdamW'] as const;
export type Phase = (typeof phases)[number];

export interface Measured {
  /** Seconds from the start of the process to that of the first step. */
  startUp: number;
  losses: number[];
  /** Seconds of each phase, by step; the encoders are missing where their results are cached. */
  steps: Partial<Record<Phase, number>>[];
  /** Floating-point operations of each phase. Python does not count. */
  flop: Partial<Record<Phase, number>>;
  /** GFLOP/s of a matrix product after each step: the machine's own speed varies. Python does not tell. */
  products: number[];
  /** Bytes: the most that was resident, mapped weights included. */
  peakRss: number;
  /** Bytes: the most that tensors had on the heap at one time. Python does not tell. */
  peakInUse: number;
  /** Bytes: what was resident after each step. */
  rss: number[];
}

/** In the mode `throughput`: of steps that are waited for together, after some that do not count. */
export interface Throughput {
  /** Of one step, the mean. */
  seconds: number;
  /** Of every step, those that do not count among them. */
  losses: number[];
  /** Bytes: the most that tensors had on the device at one time. Python does not tell for the CPU. */
  peakBytes: number | null;
}

/** Floating-point operations since the last reset, of forward and of the backward that will follow it: flop.ts counts. */
export const flop = { forward: 0, backward: 0 };
