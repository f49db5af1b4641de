/** @file The report of a dry run. */

import type { BadRow } from '../../data/bad-rows.js';
import type { Size } from '../../images/image.js';
import type { Part } from '../../options/train-options.js';
import type { Tensor } from '../../torch/index.js';
import type { PhaseMeasures } from './phase-meter.js';

export interface DryRunReport {
  /** Steps of the whole run, and those of them that the resumed checkpoint has. */
  totalSteps: number;
  doneSteps: number;
  /** Loss of each step that was run; null where the batch was skipped because of NaN or infinity. */
  losses: (number | null)[];
  /** The measured step: the last one. */
  step: StepMeasures;
  /** Parts that are encoded once, before the first step. */
  caches: CacheMeasures[];
  memory: {
    /** Peak bytes of all tensors during the steps; null on a GPU, see `PhaseMeasures`. */
    tensors: number | null;
    /** Resident bytes of the process, mapped files included: after the last step, and the peak since its start. */
    resident: number;
    mostResident: number;
  };
  checkpoint: {
    /** Size of one. */
    bytes: number;
    /** Checkpoints that the rest of the run leaves in the output folder. */
    count: number;
  };
  /** Duration of the rest of the run with filling the caches, without saving and validation images. */
  seconds: number;
  /** Rows that were skipped: incomplete ones, and those whose image could not be read. */
  badRows: BadRow[];
}

export interface StepMeasures {
  /** Images of the step, and their size: with buckets, the size whose batch has the most pixels. */
  images: number;
  size: Size;
  /** The parts of a step in their order, with the time and memory of each. */
  parts: PartMeasures[];
  /** Duration of the whole step, waiting for its images included. */
  seconds: number;
}

export interface PartMeasures extends Weights {
  name: string;
  /** Null for a part that is not run by itself. */
  seconds: number | null;
  /** Peak bytes of all tensors while it ran; null where it is not run by itself, and on a GPU. */
  tensorBytes: number | null;
}

/** Bytes of tensors that stay in memory. */
export interface Weights {
  /** In pages of the models' files: the system can drop them and read them again. */
  mappedBytes: number;
  heldBytes: number;
}

export interface CacheMeasures extends PartMeasures {
  /** Folder that its encodings would be written to. */
  folder: string;
  /** Whether the folder exists: its encodings are not made again. */
  exists: boolean;
  /** Encodings to make and their bytes on disk, if none existed yet. */
  entries: number;
  diskBytes: number;
  /** Duration of making all of them. */
  totalSeconds: number;
}

export const encoderNames: Readonly<Record<Part, string>> = {
  latents: 'VAE',
  text: 'text encoder',
  image: 'image encoder',
};

/** Returns the bytes of frozen weights. Trained weights are written to, and then no longer backed by the file. */
export function weightsOf(tensors: readonly Tensor[]): Weights {
  const sum = (some: readonly Tensor[]): number => some.reduce((total, { bytes }) => total + bytes, 0);
  const mappedBytes = sum(tensors.filter(({ isMapped }) => isMapped));
  return { mappedBytes, heldBytes: sum(tensors) - mappedBytes };
}

/** Returns the measures of a part, with or without weights. */
export function part(
  name: string,
  measures: PhaseMeasures | undefined,
  { mappedBytes, heldBytes }: Weights = { mappedBytes: 0, heldBytes: 0 },
): PartMeasures {
  const { seconds = null, tensorBytes = null } = measures ?? {};
  return { name, mappedBytes, heldBytes, seconds, tensorBytes };
}
