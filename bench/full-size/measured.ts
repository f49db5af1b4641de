/** @file The results that a measuring process, ours or Python's, prints as JSON. */

export const phases = ['VAE', 'image encoder', 'text encoder', 'UNet forward', 'backward', 'AdamW'] as const;
export type Phase = (typeof phases)[number];

export interface Measured {
  /** Seconds from the start of the process to the first step. */
  startUp: number;
  losses: number[];
  /** Seconds of each phase, by step; without encoders if their results are cached. */
  steps: Partial<Record<Phase, number>>[];
  /** Floating-point operations of each phase; Python's side does not count them. */
  flop: Partial<Record<Phase, number>>;
  /** GFLOP/s of a matrix product after each step, since the machine's speed varies; not measured by Python's side. */
  products: number[];
  /** Peak resident bytes, including mapped weights. */
  peakRss: number;
  /** Peak bytes of tensors on the heap; not measured by Python's side. */
  peakInUse: number;
  /** Resident bytes after each step. */
  rss: number[];
}

/** Results of the mode `throughput`, in which steps are timed together after a warm-up. */
export interface Throughput {
  /** Mean seconds of a step. */
  seconds: number;
  /** The losses of all steps, including the warm-up. */
  losses: number[];
  /** Peak bytes of tensors on the device; Python's side measures it on GPUs only. */
  peakBytes: number | null;
}

/** Floating-point operations since the last reset, of forward and of its future backward, as counted by flop.ts. */
export const flop = { forward: 0, backward: 0 };
