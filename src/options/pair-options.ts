/** @file The options of what a row's reference is, and of several datasets in one run. */
import { z } from 'zod';
import { count, number, whole } from './options.js';

/** A value for all datasets, or a list with one for each. */
function forEachDataset<T extends z.ZodType>(value: T) {
  return z.union([value.transform((one) => [one]), z.array(value).min(1, 'must have one value at least')], {
    error: 'must be a value for all datasets, or a list with one for each',
  });
}

/** How often a row drops a condition. */
function dropRate(what: string, rate: number) {
  return forEachDataset(number(0, 1))
    .prefault(rate)
    .describe(
      `share of the rows that drop ${what} in an epoch, 0 to 1; one for all datasets, or one for each`,
    );
}

/** What a run uses of the rows of its datasets. */
export const pairOptions = {
  groupBy: forEachDataset(z.string('must be a text').min(1, 'must not be empty'))
    .optional()
    .describe(
      'train with other images of the same thing as references: what the rows of a thing share: folder (the folder of the image), prefix (its name up to the last - or _), or a column such as group; one for all datasets, or one for each; none: no groups; default: the image itself is the reference',
    ),
  captionPrefix: forEachDataset(z.string('must be a text'))
    .optional()
    .describe('text before every caption, with a space between; one for all datasets, or one for each'),
  datasetRepeats: forEachDataset(count)
    .optional()
    .describe(
      'how often an epoch has the rows of a dataset, one for all datasets or one for each; default: 1',
    ),
  datasetWeights: z
    .array(z.number('must be a number above 0').positive('must be above 0'), 'must be a list of numbers')
    .optional()
    .describe(
      'share of each dataset in an epoch, in any unit: 1 3 trains three rows of the second for one of the first; an epoch is as long as without',
    ),
  referencesPerRow: whole(1, 64)
    .default(1)
    .describe('reference images of a row with --group-by, others in each epoch; their tokens are appended'),
  dropImage: dropRate('their image prompt only', 0.05),
  dropText: dropRate('their text only', 0.05),
  dropBoth: dropRate('both', 0.05),
};
