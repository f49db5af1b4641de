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
  /** Bytes: the most that was resident, mapped weights included. */
  peakRss: number;
  /** Bytes: the most that tensors had on the heap at one time. Python does not tell. */
  peakInUse: number;
  /** Bytes: what was resident after each step. */
  rss: number[];
}
