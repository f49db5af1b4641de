/**
 * @file Checks a dataset: reads and decodes every image, as training does in each epoch, and reports what the dataset
 * contains and how it would be batched.
 */
import { forEachConcurrently } from '../base/concurrently.js';
import type { Size } from '../base/rgb-image.js';
import { type GuardedContext, type RunContext, withContext } from '../base/run-context.js';
import { bucketSizes, nearestBucket } from '../data/buckets.js';
import type { DatasetRow } from '../data/dataset.js';
import { defaultOpenShards } from '../data/epoch-order.js';
import { forEachDataset } from '../data/for-each-dataset.js';
import type { Groups } from '../data/groups.js';
import { openDataset } from '../data/open-dataset.js';
import { readLossMask } from '../data/read-example.js';
import { masks, referenceOptions, usesMasks } from '../data/reference-options.js';
import { rowBuckets } from '../data/row-buckets.js';
import { readRowSize } from '../data/row-sizes.js';
import { type TrainRows, trainRows } from '../data/train-rows.js';
import { openModelParts } from '../diffusion/model-parts.js';
import { ImageError, readImage, useImage } from '../images/image.js';
import type { ImageSource } from '../images/image-source.js';
import { assertMaskFits, blackMask, boundsOf, greysOf } from '../images/mask.js';
import { checkOptionsSchema } from '../options/check-options.js';
import { resolveOptions } from '../options/options.js';
import type { CheckOptions } from '../options/train-types.js';
import { CaptionTally } from './caption-tally.js';
import { firstEpoch } from './first-epoch.js';
import { ImageTally } from './image-tally.js';
import {
  type BadImage,
  type DatasetPart,
  type DatasetReport,
  type GroupsReport,
  spreadOf,
} from './report.js';

/** The number of images that are read at the same time, in libuv's threads. */
const READ_AT_ONCE = 8;

/**
 * Reads all images of a dataset and returns a report. Images that cannot be read are part of the report.
 * @param open opens the dataset
 * @throws ConfigError; DatasetError where the dataset cannot be opened; the signal's reason when it is aborted
 */
export async function checkDataset(
  options: CheckOptions,
  context: RunContext = {},
  open = openDataset,
): Promise<DatasetReport> {
  return withContext(context, (guarded) => check(options, guarded, open));
}

async function check(
  options: CheckOptions,
  context: GuardedContext,
  open: typeof openDataset,
): Promise<DatasetReport> {
  const config = resolveOptions(checkOptionsSchema, options);
  const { model } = config;
  const tokenizer = model === undefined ? null : openModelParts(model).tokenizer();
  const { openShards = defaultOpenShards } = config;
  const opened = await open({ ...config, readMasks: usesMasks(config) }, { ...context, openShards });
  const dataset = trainRows(opened, { ...config, openShards });
  const { rows, description, incomplete, leftOut, groups } = dataset;
  const square = { width: config.resolution, height: config.resolution };
  const sizes = config.buckets ? bucketSizes(config.resolution) : [square];
  const images = new ImageTally();
  const captions = new CaptionTally(tokenizer);
  const shown: number[] = [];
  const badRows: BadImage[] = [];
  /** Of each row, as a run with buckets knows it before it reads the image; null where the header cannot be read. */
  const imageSizes = new Array<Size | null>(rows.length).fill(null);
  let done = 0;
  const start = performance.now();

  const checkRow = async (row: DatasetRow, index: number): Promise<void> => {
    for (const caption of row.captions) captions.add(caption);
    try {
      const header = await useImage(row.image, async (_, header) => header);
      if (row.promptImage !== row.image) await readImage(row.promptImage);
      const target = nearestBucket(header, sizes);
      if (row.mask !== undefined) {
        const percent = await percentShown(row.mask, header, masks(referenceOptions(config)));
        if (config.maskedLoss) await readLossMask(row, target);
        shown.push(percent);
      }
      images.add(index, header, target, await row.image.read());
      imageSizes[index] = { width: header.width, height: header.height };
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      imageSizes[index] = await readRowSize(row);
      badRows.push({ row: index, file: error.image, reason: error.reason });
    }
    context.emit({ type: 'progress', done: ++done, total: rows.length });
  };
  await forEachConcurrently(rows, READ_AT_ONCE, checkRow, context.signal);

  const readSeconds = (performance.now() - start) / 1000;
  const buckets = config.buckets ? rowBuckets(imageSizes, config.resolution) : undefined;
  const bad = new Set(badRows.map(({ row }) => row));
  return {
    dataset: description,
    rows: rows.length,
    datasets: datasetParts(dataset, config),
    badRows: badRows.sort((a, b) => a.row - b.row),
    incomplete: [...incomplete],
    leftOut: [...leftOut],
    images: images.report(),
    captions: captions.report(),
    groups: groups === undefined ? null : groupsReport(groups),
    masks: usesMasks(config) ? { rows: shown.length, percentShown: spreadOf(shown) } : null,
    ...firstEpoch(dataset, buckets, bad, { ...config, openShards }),
    readSeconds,
    rowsPerSecond: rows.length / readSeconds,
  };
}

/**
 * Returns how many per cent of an image its mask shows.
 * @param cuts whether references are cut and cleared by it
 * @throws ImageError where the mask cannot be used
 */
function percentShown(mask: ImageSource, image: Size, cuts: boolean): Promise<number> {
  return useImage(mask, async (decoded) => {
    assertMaskFits(mask, decoded, image);
    if (cuts && boundsOf(decoded) === null) throw blackMask(mask);
    const greys = greysOf(decoded);
    return Math.round(greys.reduce((sum, grey) => sum + grey, 0) / greys.length / 2.55);
  });
}

function datasetParts(
  { rows, parts = [rows.length], mixture, dropRatesOf }: TrainRows,
  { dataset, captionPrefix }: { dataset: readonly string[]; captionPrefix?: readonly string[] | undefined },
): DatasetPart[] {
  const prefixOf = forEachDataset('--caption-prefix (captionPrefix)', captionPrefix, parts.length);
  let start = 0;
  return parts.map((rows, i) => {
    // Every rate has a default.
    const drops = dropRatesOf!(start);
    start += rows;
    const rowsInEpoch = mixture?.portions[i]?.taken ?? rows;
    return { name: dataset[i]!, rows, rowsInEpoch, drops, captionPrefix: prefixOf(i) ?? '' };
  });
}

function groupsReport({ sizes, alone, ungrouped }: Groups): GroupsReport {
  const rows = sizes.reduce((sum, size) => sum + size, 0);
  return { count: sizes.length, rows, size: spreadOf(sizes), alone, ungrouped };
}
