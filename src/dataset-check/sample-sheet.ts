/** @file The contact sheet of a dataset: what a run reads of its rows, as the encoders see it. */
import { openImageEncoder } from '../adapters/image-encoder.js';
import { ConfigError, DatasetError } from '../base/errors.js';
import type { RgbImage, Size } from '../base/rgb-image.js';
import { type GuardedContext, type RunContext, withContext } from '../base/run-context.js';
import { bucketSizes, nearestBucket } from '../data/buckets.js';
import type { DatasetRow } from '../data/dataset.js';
import { defaultOpenShards, epochOrder, epochRows } from '../data/epoch-order.js';
import type { Example, Input } from '../data/examples.js';
import { openDataset } from '../data/open-dataset.js';
import { readExample, Unreadable } from '../data/read-example.js';
import { referenceOptions, usesMasks } from '../data/reference-options.js';
import { sampleOf } from '../data/sample-of.js';
import { trainRows } from '../data/train-rows.js';
import { ImageError, readImageSize } from '../images/image.js';
import { labelledSheet } from '../images/labelled-sheet.js';
import { padWithBlack } from '../images/read-crops.js';
import { resizeAndCrop } from '../images/resample.js';
import { checkOptionsSchema } from '../options/check-options.js';
import { resolveOptions } from '../options/options.js';
import type { CheckOptions } from '../options/train-types.js';

/** Cells are as large as what the encoder reads, but for an encoder of tiny images: words have to be legible. */
const SMALLEST_CELL = 160;

/** What is left of the brightness of a training image where its mask takes it out of the loss. */
const DARKENED = 0.25;

/**
 * Draws the first `show` rows that the first epoch of a run without held-out rows and without buckets trains on: the training
 * image, darker where a mask takes it out of the loss; the references after masks, random changes and the encoder's own crop,
 * white where they are dropped; and the caption. A row that cannot be read is named in a message, and the next one is drawn.
 * @throws ConfigError; DatasetError where the dataset cannot be opened, or no row can be read
 */
export async function sampleSheet(options: CheckOptions, context: RunContext = {}): Promise<RgbImage> {
  const { title, columns, rows } = await readSamples(options, context);
  const labelled = rows.map(({ row, facts, caption, images }) => ({
    label: `${[`row ${row}`, ...facts].join(', ')}: ${caption}`,
    images,
  }));
  return labelledSheet(title, columns, labelled);
}

/** The rows of a contact sheet. */
export interface Samples {
  title: string;
  /** Titles: the training image, then each reference. */
  columns: string[];
  rows: SampleRow[];
}

interface SampleRow {
  /** Its index. */
  row: number;
  /** Such as 'mirrored'. */
  facts: string[];
  caption: string;
  /** Squares of one size; one for each column. */
  images: RgbImage[];
}

/** Reads what `sampleSheet` draws. @param open opens the dataset @throws as `sampleSheet` */
export async function readSamples(
  options: CheckOptions,
  context: RunContext = {},
  open = openDataset,
): Promise<Samples> {
  return withContext(context, (guarded) => read(options, guarded, open));
}

async function read(
  options: CheckOptions,
  context: GuardedContext,
  open: typeof openDataset,
): Promise<Samples> {
  const config = resolveOptions(checkOptionsSchema, options);
  const { show, imageEncoder, batchSize, seed, randomFlip, referencesPerRow, resolution } = config;
  if (show === undefined || imageEncoder === undefined)
    throw new ConfigError(
      'A contact sheet needs --show (show), the number of its rows, and --image-encoder (imageEncoder), whose preprocessing decides what is seen',
    );
  const { preprocess: imageProcessor } = openImageEncoder(imageEncoder);
  const { openShards = defaultOpenShards } = config;
  const opened = await open({ ...config, readMasks: usesMasks(config) }, { ...context, openShards });
  const { rows, shards, groups, mixture, dropRatesOf, description } = trainRows(opened, {
    ...config,
    openShards,
  });
  const references = referenceOptions(config);
  const sampling = { rows, seed, randomFlip, groups, referencesPerRow, references, dropRatesOf };
  const reading = { rows, imageProcessor, references };
  const sizes = config.buckets ? bucketSizes(resolution) : [{ width: resolution, height: resolution }];
  // Without buckets, whatever the run has: their order needs the sizes of all images.
  const order = epochOrder(0, 0, { ...epochRows({ rows, shards, mixture }), openShards, seed, batchSize });
  const side = Math.max(SMALLEST_CELL, imageProcessor.cropSize);
  const samples: SampleRow[] = [];
  for (const index of order) {
    if (samples.length === show) break;
    context.signal.throwIfAborted();
    const sample = sampleOf(sampling, 0, mixture?.at(0, index) ?? { row: index, draw: index });
    const size = await trainingSize(rows.at(sample.row) as DatasetRow, sizes);
    const inputs: Input[] = [
      'pixelValues',
      'clipPixelValues',
      ...(config.maskedLoss ? ['lossMasks' as const] : []),
    ];
    const example =
      size instanceof ImageError
        ? new Unreadable(sample.row, size)
        : await readExample(sample, size, inputs, reading);
    if (example instanceof Unreadable) context.onMessage(`Not shown: ${example.error.message}`);
    else samples.push(sampleRow(example, side));
  }
  if (samples.length === 0)
    throw new DatasetError('Expected a row that can be read, to show it, but none can.');
  const places = Array.from({ length: referencesPerRow }, (_, i) =>
    referencesPerRow > 1 ? ` ${i + 1}` : '',
  );
  const columns = places.map((place) => `reference${place}, ${imageProcessor.cropSize} pixels`);
  return { title: `first epoch: ${description}`, columns: ['training image', ...columns], rows: samples };
}

/** Returns the size at which a row is trained, or why its image cannot be read. */
async function trainingSize({ image }: DatasetRow, sizes: readonly Size[]): Promise<Size | ImageError> {
  try {
    return nearestBucket(await readImageSize(image), sizes);
  } catch (error) {
    if (error instanceof ImageError) return error;
    throw error;
  }
}

function sampleRow({ row, crop, mask, clipCrops, drop, flip, caption }: Example, side: number): SampleRow {
  const nothing = { data: new Uint8Array(side * side * 3).fill(255), width: side, height: side };
  const facts = [
    flip && 'mirrored',
    mask && `${Math.round(mask.reduce((sum, grey) => sum + grey, 0) / mask.length / 2.55)} % in the loss`,
    drop.dropImage && 'image dropped',
    drop.dropText && 'text dropped',
  ];
  return {
    ...{ row, caption },
    facts: facts.filter((fact) => fact !== false && fact !== null),
    images: [
      inCell(mask === null ? (crop as RgbImage) : darkened(crop as RgbImage, mask), side),
      ...clipCrops.map((image) => (image === null ? nothing : inCell(image, side))),
    ],
  };
}

function darkened(image: RgbImage, mask: Uint8Array): RgbImage {
  const data = image.data.map((value, i) => {
    const share = (mask[Math.floor(i / 3)] as number) / 255;
    return Math.round(value * (DARKENED + (1 - DARKENED) * share));
  });
  return { ...image, data };
}

/** Returns an image that fills a square in one direction, and is in its middle in the other. */
function inCell(image: RgbImage, side: number): RgbImage {
  const scale = side / Math.max(image.width, image.height);
  const [width, height] = [image.width, image.height].map((length) => Math.round(length * scale)) as [
    number,
    number,
  ];
  const crop = { left: 0, top: 0, width, height };
  const scaled = resizeAndCrop(image, { width, height, crop, filter: 'bilinear' });
  const [left, top] = [Math.floor((side - width) / 2), Math.floor((side - height) / 2)];
  return padWithBlack(scaled, { left, top, width: side, height: side });
}
