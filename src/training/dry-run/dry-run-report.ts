/** @file The report of a dry run. */

import type { BadRow } from '../../base/listing.js';
import type { Size } from '../../base/rgb-image.js';
import type { Part } from '../../options/train-options.js';
import type { Tensor } from '../../torch/index.js';
import type { PhaseMeasures } from './phase-meter.js';

export interface DryRunReport {
  /** Steps that the run has in all, and those of them that the checkpoint has which it resumes. */
  totalSteps: number;
  doneSteps: number;
  /** Of the steps that were run; null where the batch was skipped for a NaN or infinity. */
  losses: (number | null)[];
  /** The measured step, the last of them. */
  step: StepMeasures;
  /** Parts that are encoded once, before the first step. */
  caches: CacheMeasures[];
  memory: {
    /** Bytes of all tensors in the steps, the most in use at a time; null on a GPU, see `PhaseMeasures`. */
    tensors: number | null;
    /** Bytes of the process in memory, mapped files included: after the last step, and the most since it was started. */
    resident: number;
    mostResident: number;
  };
  checkpoint: {
    /** Of one. */
    bytes: number;
    /** How many the rest of the run leaves in the output folder. */
    count: number;
  };
  /** Of the rest of the run, filling the caches included; saving and validation images are not. */
  seconds: number;
  /** Rows that were skipped: incomplete ones, and those whose image could not be read on the way. */
  badRows: BadRow[];
}

export interface StepMeasures {
  /** Images of the step, and their size: with buckets that whose batch has the most pixels. */
  images: number;
  size: Size;
  /** In the order of a step: what it is made of, and what each takes. */
  parts: PartMeasures[];
  /** All of the step, waiting for its images included. */
  seconds: number;
}

export interface PartMeasures extends Weights {
  name: string;
  /** Null of what is not run in the step by itself. */
  seconds: number | null;
  /** Bytes of all tensors while it ran, the most in use at a time; null where it is not run, and on a GPU. */
  tensorBytes: number | null;
}

/** Bytes of tensors that stay. */
export interface Weights {
  /** In pages of the models' files: the system can drop them and read them again. */
  mappedBytes: number;
  heldBytes: number;
}

export interface CacheMeasures extends PartMeasures {
  /** Where its encodings would be written. */
  folder: string;
  /** Whether the folder is there: what it holds is not encoded again. */
  exists: boolean;
  /** Encodings to be made and their bytes on disk, where none is there yet. */
  entries: number;
  diskBytes: number;
  /** Of making all of them. */
  totalSeconds: number;
}

export const encoderNames: Readonly<Record<Part, string>> = {
  latents: 'VAE',
  text: 'text encoder',
  image: 'image encoder',
};

/** Of frozen weights. Those that are trained are written to, and then no longer the file's. */
export function weightsOf(tensors: readonly Tensor[]): Weights {
  const sum = (some: readonly Tensor[]): number => some.reduce((total, { bytes }) => total + bytes, 0);
  const mappedBytes = sum(tensors.filter(({ isMapped }) => isMapped));
  return { mappedBytes, heldBytes: sum(tensors) - mappedBytes };
}

/** A part without weights, or with those. */
export function part(
  name: string,
  measures: PhaseMeasures | undefined,
  { mappedBytes, heldBytes }: Weights = { mappedBytes: 0, heldBytes: 0 },
): PartMeasures {
  const { seconds = null, tensorBytes = null } = measures ?? {};
  return { name, mappedBytes, heldBytes, seconds, tensorBytes };
}
