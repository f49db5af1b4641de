/** @file Runs on the demo's world, healthy or broken in one way each, and the gain that they have on held-out scenes. */
import { withContext } from '../src/base/run-context.js';
import { openDataset } from '../src/data/open-dataset.js';
import { type Part, parts } from '../src/options/train-options.js';
import type { TrainOptions } from '../src/options/train-types.js';
import { cat, Generator, tidy } from '../src/torch/index.js';
import { openEncoders } from '../src/training/encodings/encoders.js';
import type { Encode } from '../src/training/encodings/frozen-encoders.js';
import { GainMeter, type GainReport } from '../src/training/gain.js';
import { encodeHeldOut } from '../src/training/held-out.js';
import { remainingBatches, withPreparedRun } from '../src/training/prepare.js';
import { createLoader } from '../src/training/setup.js';
import { trainStep } from '../src/training/step.js';

/** What is wrong with a run. */
export interface Fault {
  options?: Partial<TrainOptions>;
  /** Replaces the image encoder. */
  image?: (encode: Encode) => Encode;
}

export const faults = {
  healthy: {},
  // The polynomial schedule refuses a rate below its end.
  'learning rate 0': { options: { learningRate: 1e-30, lrScheduler: 'constant' } },
  'learning rate too high': { options: { learningRate: 0.05 } },
  // Every row is trained with the image of another row of its batch.
  shuffled: {
    image: (encode) => (examples) =>
      tidy(() => {
        const { rows } = encode(examples);
        return { rows: cat([rows.slice(0, 1), rows.slice(0, 0, 1)]) };
      }),
  },
  // The text as often as in a healthy run.
  dropped: { options: { dropImage: 0.9, dropText: 0, dropBoth: 0.1 } },
  'features zeroed': {
    image: (encode) => (examples) => tidy(() => ({ rows: encode(examples).rows.mul(0) })),
  },
} as const satisfies Record<string, Fault>;

export interface GainRun {
  /** Its `maxSteps` are trained. */
  options: TrainOptions & { maxSteps: number };
  fault: Fault;
  /** A dataset to measure on. */
  heldOut: string;
  /** Keeps what the frozen encoders make of the rows, for the next run too. */
  cacheDir: string;
  /** Steps after which the gain is measured. */
  measuredAt: readonly number[];
}

/** Trains, and calls `onGain` with the gain on held-out rows after some steps. */
export async function measureGain(
  { options, fault, heldOut, cacheDir, measuredAt }: GainRun,
  onGain: (step: number, gains: GainReport) => void,
): Promise<void> {
  await withContext({}, (context) =>
    withPreparedRun({ ...options, ...fault.options }, context, async (run) => {
      const { training, loader, state, placement, dataset } = run;
      const { models, config, adapter } = training;
      using encoders = await openEncoders(models, {
        ...{ cached: parts, cacheDir, resolution: config.resolution, rows: dataset.rows, loader, placement },
      });
      const held = await openDataset({ dataset: [heldOut] });
      const source = { generator: new Generator(placement.device, 1), device: placement.device };
      const heldLoader = createLoader(models, config, held, undefined);
      const encoded = await encodeHeldOut(models, {}, heldLoader, held.rows, source);
      using meter = new GainMeter(models, encoded, config.batchSize, source);
      const image = fault.image?.(encoders.image) ?? encoders.image;
      const faulty: Record<Part, Encode> = { ...encoders, image };
      for await (const batch of remainingBatches(loader, state, () => Number.POSITIVE_INFINITY)) {
        if (trainStep({ ...training, encoders: faulty }, batch, state.step + 1) !== null) state.step++;
        if (measuredAt.includes(state.step)) onGain(state.step, await meter.measure(adapter));
        if (state.step === options.maxSteps) break;
      }
    }),
  );
}
