/** @file Measures the gain of a run as it goes. */
import { type Part, parts } from '../options/train-options.js';
import { Generator, tensorsOf } from '../torch/index.js';
import type { Encode } from './encodings/frozen-encoders.js';
import { GainMeter } from './gain.js';
import { encodeHeldOut } from './held-out.js';
import type { PreparedRun } from './prepare.js';
import { createLoader, lossInputs } from './setup.js';

/** Not the run's: the same rows are measured alike in all runs, whose figures can be compared. */
const SEED = 17;

/**
 * Encodes the held-out rows of a run.
 * @param encoders of the run, of which caches have the training rows only
 * @returns undefined where none are held out
 * @throws DatasetError where too many of them cannot be read
 */
export async function openGainMeter(
  { heldOut, placement, processes, training: { config, models } }: PreparedRun,
  encoders: Record<Part, Encode>,
): Promise<GainMeter | undefined> {
  if (heldOut === undefined) return undefined;
  // Of one size, also where the run has buckets, and not cached: they are encoded once.
  const loader = createLoader(models, { ...config, cache: [] }, heldOut, undefined);
  const source = { generator: new Generator(placement.device, SEED), device: placement.device };
  const loaded = Object.fromEntries(
    parts.filter((part) => !config.cache?.includes(part)).map((part) => [part, encoders[part]]),
  );
  const rows = await processes.together(() =>
    encodeHeldOut(
      { ...models, sizes: heldOut.sizes },
      loaded,
      loader,
      heldOut.rows,
      source,
      lossInputs(config),
    ),
  );
  await processes.assertSame({ 'the number of held-out rows that can be read': rows.latents.shape[0] });
  const meter = new GainMeter(models, rows, config.batchSize, source, processes);
  for (const tensor of tensorsOf(rows)) tensor.dispose();
  return meter;
}
