/** @file Says the report of a dataset check in words. */
import { formatDuration } from '../base/format-duration.js';
import { counted } from '../base/listing.js';
import type { DatasetPart, DatasetReport, GroupsReport, ImagesReport, Spread } from './report.js';

/** Returns the facts of a report, each with its name. */
export function factsOf(report: DatasetReport): [name: string, value: string][] {
  const { rows, badRows, incomplete, leftOut, images, captions, groups, masks, stepsPerEpoch, readSeconds } =
    report;
  const { tokens } = captions;
  const repeated = images.duplicates.reduce((sum, { length }) => sum + length - 1, 0);
  return [
    ['dataset', report.dataset],
    ...(report.datasets.length > 1
      ? report.datasets.map((one, i): [string, string] => [`dataset ${i + 1}`, added(one)])
      : []),
    [
      'rows',
      `${count(rows)}, bad ${count(badRows.length)}, incomplete ${count(incomplete.length)}, left out ${count(leftOut.length)}`,
    ],
    ['width', spread(images.width)],
    ['height', spread(images.height)],
    ['upscaled', `${count(images.enlarged)} smaller than the training resolution`],
    ['duplicates', `${count(repeated)} equal to the image of an earlier row`],
    ['as stored', asStored(images)],
    ['captions', `${count(captions.count)}, empty ${count(captions.empty)}`],
    [
      'tokens',
      tokens === null
        ? 'not counted: give --model, which has the tokenizer'
        : `${spread(tokens)}; truncated at ${tokens.limit}: ${count(tokens.truncated)}`,
    ],
    ...(masks === null
      ? []
      : [
          ['masks', `${count(masks.rows)} rows, % of the image: ${spread(masks.percentShown)}`] satisfies [
            string,
            string,
          ],
        ]),
    ...(groups === null ? [] : [['groups', grouped(groups)] satisfies [string, string]]),
    [
      'epoch',
      `${count(stepsPerEpoch)} steps, ${count(report.partialBatches)} of them smaller than the batch size`,
    ],
    [
      'reading',
      `${report.rowsPerSecond.toFixed(1)} rows/s here; an epoch's images take ${formatDuration(readSeconds)}`,
    ],
  ];
}

const count = (n: number): string => n.toLocaleString('en');

/** Describes what one of several datasets adds. */
function added({
  name,
  rows,
  rowsInEpoch,
  drops: { image, text, both },
  captionPrefix,
}: DatasetPart): string {
  const prefix =
    captionPrefix === '' ? 'no caption prefix' : `caption prefix ${JSON.stringify(captionPrefix)}`;
  return `${name}: ${counted(rows, 'row')}, ${count(rowsInEpoch)} in an epoch; drops image ${image}, text ${text}, both ${both}; ${prefix}`;
}

/** Describes images that training reads differently from how a viewer shows them. */
function asStored({ turned, grey16, avif }: ImagesReport): string {
  const facts = [
    turned > 0 && `${turned} with an EXIF orientation, which training ignores`,
    grey16 > 0 && `${grey16} in 16-bit grey, which become almost white`,
    avif > 0 && `${avif} AVIF, which decode up to 79 levels away from Pillow's at hard edges`,
  ];
  return facts.filter(Boolean).join('; ') || 'as viewers show them';
}

function grouped({ count, rows, size, alone, ungrouped }: GroupsReport): string {
  return `${count} of ${rows} rows, rows of a group: ${spread(size)}; own image as reference: ${alone} alone, ${ungrouped} without a group`;
}

function spread(values: Spread | null): string {
  return values === null ? '–' : `min ${values.min}, median ${values.median}, max ${values.max}`;
}
