/**
 * @file Checks a dataset in a process of its own, for the studio: reads every image, as `ip-adapter data check` does, and first
 * some rows as the encoders see them. One check a process; it is cancelled by ending it.
 */
import { setPriority } from 'node:os';
import process from 'node:process';
import sharp from 'sharp';
import { DatasetError, UserError } from '../base/errors.js';
import type { BadRow } from '../base/listing.js';
import type { RgbImage } from '../base/rgb-image.js';
import { Throttle } from '../base/throttle.js';
import { openWithin } from '../data/confined.js';
import type {
  CheckFault,
  CheckMessage,
  CheckProblem,
  CheckRequest,
  CheckSummary,
} from '../options/check-messages.js';
import { checkOptionsSchema } from '../options/check-options.js';
import { checkDataset } from './check-dataset.js';
import type { DatasetReport } from './report.js';
import { factsOf } from './report-facts.js';
import { readSamples } from './sample-sheet.js';

/** Of each list of problems. */
const MAX_SHOWN = 200;
const MAX_BUCKETS = 200;
const PROGRESS_MS = 250;

/** Behind trainings and the studio itself. */
const NICENESS = 10;

function tell(message: CheckMessage): Promise<void> {
  return new Promise((resolve) => process.send?.(message, undefined, undefined, () => resolve()));
}

async function check({ options, roots }: CheckRequest): Promise<void> {
  const open = openWithin(roots);
  if (options.show !== undefined && options.imageEncoder !== undefined)
    try {
      const { columns, rows } = await readSamples(options, {}, open);
      const encoded = rows.map(async ({ images, row, facts, caption }) => ({
        // The page counts from 1.
        ...{ caption, facts: [`row ${row + 1}`, ...facts].join(', ') },
        images: await Promise.all(images.map(dataUrl)),
      }));
      await tell({ type: 'samples', samples: { columns, rows: await Promise.all(encoded) } });
    } catch (error) {
      await tell({ type: 'samples failed', ...faultOf(error) });
    }
  const throttle = new Throttle(PROGRESS_MS);
  const report = await checkDataset(
    options,
    {
      onEvent: (event) => {
        if (event.type !== 'progress') return;
        const { done, total } = event;
        if (throttle.isDue() || done === total) void tell({ type: 'progress', done, total });
      },
    },
    open,
  );
  const sameImage = report.images.duplicates.flat().sort((a, b) => a - b);
  const unreadable = report.badRows.map(({ row }) => row);
  await tell({
    type: 'done',
    summary: summaryOf(report, options.buckets === true),
    rows: { unreadable: Uint32Array.from(unreadable), sameImage: Uint32Array.from(sameImage) },
  });
}

async function dataUrl({ data, width, height }: RgbImage): Promise<string> {
  const webp = await sharp(data, { raw: { width, height, channels: 3 } })
    .webp({ quality: 85 })
    .toBuffer();
  return `data:image/webp;base64,${webp.toString('base64')}`;
}

function summaryOf(report: DatasetReport, hasBuckets: boolean): CheckSummary {
  const { badRows, incomplete, leftOut, images, captions, buckets } = report;
  const problem = (title: string, list: readonly BadRow[]): CheckProblem => ({
    ...{ title, count: list.length },
    shown: list.slice(0, MAX_SHOWN).map(({ file, reason }) => ({ file, reason })),
  });
  const sameImage: CheckProblem = {
    title: 'Rows of one image',
    count: images.duplicates.length,
    shown: images.duplicates.slice(0, MAX_SHOWN).map((rows) => ({
      // The page counts from 1.
      file: `rows ${rows
        .slice(0, MAX_SHOWN)
        .map((row) => row + 1)
        .join(', ')}`,
      reason: 'their images are equal byte for byte',
    })),
  };
  return {
    facts: factsOf(report),
    buckets: hasBuckets ? buckets.slice(0, MAX_BUCKETS) : [],
    problems: [
      problem('Images that cannot be read', badRows),
      problem('Samples without an image or a caption', incomplete),
      problem('Left out', leftOut),
      { title: 'Captions that are empty', count: captions.empty, shown: [] },
      sameImage,
    ].filter(({ count }) => count > 0),
  };
}

function faultOf(error: unknown): CheckFault {
  const { message } = error as Error;
  const isFault = !(error instanceof UserError);
  if (isFault) process.stderr.write(`${(error as Error).stack}\n`);
  return { error: message, option: optionIn(message, error), isFault };
}

/** Messages name options as `--batch-size (batchSize)`. */
function optionIn(message: string, error: unknown): string | undefined {
  const [, name = ''] = /--[\w-]+ \((\w+)\)/.exec(message) ?? [];
  if (Object.hasOwn(checkOptionsSchema.shape, name)) return name;
  return error instanceof DatasetError ? 'dataset' : undefined;
}

setPriority(NICENESS);
process.once('message', (request: CheckRequest) => {
  check(request)
    .catch((error) => tell({ type: 'failed', ...faultOf(error) }))
    .finally(() => process.exit());
});
process.on('disconnect', () => process.exit());
