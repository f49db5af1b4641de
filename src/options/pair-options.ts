/** @file The options of what a row's reference is, and of several datasets in one run. */
import { z } from 'zod';
import { count, flag, number, whole } from './options.js';

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
  referenceFlip: number(0, 1)
    .optional()
    .describe(
      'share of the references that are mirrored, without their training image, 0 to 1 (RandomHorizontalFlip); default: none',
    ),
  referenceCrop: z
    .number('must be a number above 0, up to 1')
    .gt(0, 'must be above 0')
    .max(1, 'must be 1 at most')
    .optional()
    .describe(
      'take a random part of each reference, of this share of its area at least (RandomResizedCrop); default: all of it',
    ),
  referenceColorJitter: z
    .union(
      [
        number(0, 10).transform((one) => [one]),
        z.array(number(0, 10)).min(1, 'must have one value at least').max(4, 'must have four values at most'),
      ],
      { error: 'must be one to four numbers' },
    )
    .refine(([, , , hue = 0]) => hue <= 0.5, 'must have a hue of 0.5 at most')
    .optional()
    .describe(
      'the most by which brightness, contrast, saturation and hue of references change at random: 0.2 0.2 0.2 0.05 (ColorJitter); default: not at all',
    ),
  referenceRotation: number(0, 180)
    .optional()
    .describe(
      'turn references at random by at most as many degrees to either side (RandomRotation); default: not at all',
    ),
  imageVariants: whole(1, 1000)
    .optional()
    .describe(
      'variations that each reference has, which --cache image keeps; default: others in every epoch, which cannot be cached',
    ),
  maskedLoss: flag
    .default(false)
    .describe(
      "count the loss where each row's mask is white: dog.mask.png beside dog.jpg, mask_file in JSON, KEY.mask.png in a tar, a column mask",
    ),
  referenceMaskCrop: flag.default(false).describe('cut references to what their mask shows'),
  referenceBackground: z
    .string()
    .regex(/^#[0-9a-f]{6}$/i, "must be a colour such as '#ffffff'")
    .optional()
    .describe(
      "colour in place of what the mask of a reference does not show, such as '#ffffff'; default: the image",
    ),
};
