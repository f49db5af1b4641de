/** @file The report of a dry run. */
import type { BadRow } from '../../base/listing.js';
import type { Size } from '../../base/rgb-image.js';
import type { Part } from '../../options/train-options.js';
import type { Tensor } from '../../torch/index.js';
import type { CheckpointPlan, DiskNeed } from '../checkpoints/disk-space.js';
import type { PhaseMeasures } from './phase-meter.js';

export interface DryRunReport {
  /** Steps of the whole run. */
  totalSteps: number;
  /** Steps done in the checkpoint that the run resumes from. */
  doneSteps: number;
  /** The loss of each step that was taken; null where the batch was skipped because of a NaN or infinity. */
  losses: (number | null)[];
  /** The last step, which was measured. */
  step: StepMeasures;
  /** Parts that are encoded once, before the first step. */
  caches: CacheMeasures[];
  memory: {
    /** Peak bytes of all tensors during the steps; may be null on a GPU, see `PhaseMeasures`. */
    tensors: number | null;
    /** Resident bytes of the process after the last step, mapped files included. */
    resident: number;
    /** Peak resident bytes since the process started. */
    mostResident: number;
  };
  checkpoints: CheckpointPlan;
  /** What the checkpoints and caches take at most, by file system; caches as if nothing were cached yet. */
  disk: DiskNeed[];
  /** Estimate for the rest of the run, with the filling of caches, without saving and validation images. */
  seconds: number;
  /** Rows that were skipped: incomplete ones, and those whose image could not be read. */
  badRows: BadRow[];
}

export interface StepMeasures {
  /** Images in the batch. */
  images: number;
  /** Their size; with buckets, the size whose batch has the most pixels. */
  size: Size;
  /** The parts of the step, in their order. */
  parts: PartMeasures[];
  /** The whole step, including the wait for its images. */
  seconds: number;
}

export interface PartMeasures extends Weights {
  name: string;
  /** Null for a part that does not run by itself. */
  seconds: number | null;
  /** Peak bytes of all tensors while the part ran; null for a part that does not run by itself, and on a GPU. */
  tensorBytes: number | null;
}

/** Bytes of tensors that stay in memory. */
export interface Weights {
  /** Bytes in mapped files, which the system can drop and read again. */
  mappedBytes: number;
  heldBytes: number;
}

export interface CacheMeasures extends PartMeasures {
  /** The folder that the encodings would be written to. */
  folder: string;
  /** Whether the folder exists; encodings that it holds are not made again. */
  exists: boolean;
  /** Encodings of the whole dataset. */
  entries: number;
  /** Bytes of all of them on disk. */
  diskBytes: number;
  /** Time to make all of them. */
  totalSeconds: number;
}

export const encoderNames: Readonly<Record<Part, string>> = {
  latents: 'VAE',
  text: 'text encoder',
  image: 'image encoder',
};

/** Returns the bytes of frozen weights, mapped and in memory. */
export function weightsOf(tensors: readonly Tensor[]): Weights {
  const sum = (some: readonly Tensor[]): number => some.reduce((total, { bytes }) => total + bytes, 0);
  const mappedBytes = sum(tensors.filter(({ isMapped }) => isMapped));
  return { mappedBytes, heldBytes: sum(tensors) - mappedBytes };
}

/** Returns the measures of a part, by default one without weights. */
export function part(
  name: string,
  measures: PhaseMeasures | undefined,
  { mappedBytes, heldBytes }: Weights = { mappedBytes: 0, heldBytes: 0 },
): PartMeasures {
  const { seconds = null, tensorBytes = null } = measures ?? {};
  return { name, mappedBytes, heldBytes, seconds, tensorBytes };
}
