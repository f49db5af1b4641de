/** @file Measures what caches would take: encodes a few batches as in the filling of a cache, and writes nothing. */
import { existsSync } from 'node:fs';
import type { Size } from '../../base/rgb-image.js';
import type { Rows } from '../../data/dataset.js';
import type { Examples } from '../../data/examples.js';
import { type Part, parts } from '../../options/train-options.js';
import { mapTensors, tensorsOf, tidy, trimMemory } from '../../torch/index.js';
import {
  type CachedModels,
  cachedDrops,
  cacheFolder,
  type EncoderOptions,
  samplesFor,
  storedDtype,
} from '../encodings/encoders.js';
import type { Encode, Encoding } from '../encodings/frozen-encoders.js';
import { entryKeys } from '../encodings/keys.js';
import { type CacheMeasures, encoderNames, part as measuresOf, weightsOf } from './dry-run-report.js';
import { PhaseMeter } from './phase-meter.js';

type RehearsalOptions = Omit<EncoderOptions, 'loader' | 'onMessage' | 'signal'>;

export interface CacheRehearsal {
  measures: CacheMeasures[];
  /** Replaces the encoders: returns the encodings of the batches, which must come in the same order again. */
  encode: Partial<Record<Part, Encode>>;
}

/**
 * Encodes the batches with the encoder of each cached part, and measures the last batch.
 * @param batches one or more batches, with all inputs
 * @param readSeconds the time to read the images of one row, which the loader does while an encoder runs
 */
export function rehearseCaches(
  models: CachedModels,
  batches: readonly Examples[],
  readSeconds: number,
  options: RehearsalOptions,
): CacheRehearsal {
  const { cached, placement } = options;
  const rehearsal: CacheRehearsal = { measures: [], encode: {} };
  for (const part of parts) {
    if (!cached.includes(part)) continue;
    const encoder = models.encoders[part].load();
    const weights = weightsOf(encoder.parameters());
    let meter = new PhaseMeter(placement.device);
    const encodings = batches.map((batch) => {
      meter = new PhaseMeter(placement.device);
      const encode = () => meter.measure(part, () => encoder.encode(batch));
      const stored = { device: 'cpu', dtype: storedDtype(part, placement.dtype) } as const;
      return tidy(() => mapTensors(encode(), (tensor) => tensor.to(stored)));
    });
    encoder[Symbol.dispose]();
    trimMemory();

    const last = batches.at(-1) as Examples;
    const bytes = tensorsOf(encodings.at(-1)).reduce((sum, tensor) => sum + tensor.bytes, 0);
    const measured = measuresOf(encoderNames[part], meter.phase(part), weights);
    const encoded =
      part === 'image' ? last.references.reduce((sum, { length }) => sum + length, 0) : last.rows.length;
    const rowSeconds = (measured.seconds as number) / encoded;
    const { entries, diskBytes } = sizeOnDisk(part, bytes / encoded, last.rows[0] as number, options);
    const folder = cacheFolder(part, models, options);
    rehearsal.measures.push({
      ...measured,
      ...{ folder, entries, diskBytes, exists: existsSync(folder) },
      totalSeconds: entries * (part === 'text' ? rowSeconds : Math.max(rowSeconds, readSeconds)),
    });
    let next = 0;
    rehearsal.encode[part] = () => {
      const encoding = encodings[next++] as Encoding;
      return mapTensors(encoding, (tensor) => {
        const onDevice = tensor.to(placement.device);
        tensor.dispose();
        return onDevice;
      });
    };
  }
  return rehearsal;
}

/** Returns the number of entries of a cache and their bytes. @param rowBytes the size of the encoding of `row` */
function sizeOnDisk(
  part: Part,
  rowBytes: number,
  row: number,
  options: RehearsalOptions,
): { entries: number; diskBytes: number } {
  const { rows, buckets } = options;
  // A cache identifies images by their content. It is not read here; file names stand for it.
  const keyOf = entryKeys(fileNames(rows), buckets)[part];
  const areaOf = (index: number): number => area(buckets?.[index]);
  const keys = new Set<string>();
  let diskBytes = 0;
  for (const drop of cachedDrops)
    for (const sample of samplesFor(part, options, drop)) {
      const [key = ''] = keyOf(sample);
      if (keys.has(key)) continue;
      keys.add(key);
      diskBytes += part === 'latents' ? (rowBytes * areaOf(sample.row)) / areaOf(row) : rowBytes;
    }
  return { entries: keys.size, diskBytes };
}

function area(size: Size | undefined): number {
  return size === undefined ? 1 : size.width * size.height;
}

function fileNames(rows: Rows): { images: string[]; promptImages: string[] } {
  const names = Array.from(rows, ({ image, promptImage }, row) =>
    [image, promptImage].map(({ file, name }) => file ?? `${row} ${name}`),
  ) as [string, string][];
  return { images: names.map(([image]) => image), promptImages: names.map(([, prompt]) => prompt) };
}
