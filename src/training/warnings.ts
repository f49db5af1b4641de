/** @file What is allowed and rarely wanted, in words at the start of a run. */
import type { ResolvedTrainOptions } from '../options/train-options.js';

type Checked = Pick<
  ResolvedTrainOptions,
  'resolution' | 'batchSize' | 'gradientAccumulationSteps' | 'buckets'
>;

/**
 * @param imageSize side of the images that the model was trained on
 * @param rows of the dataset
 * @param worldSize the number of processes
 */
export function warningsFor(
  { resolution, batchSize, gradientAccumulationSteps: accumulated, buckets }: Checked,
  imageSize: number,
  rows: number,
  worldSize = 1,
): string[] {
  const warnings: string[] = [];
  if (resolution !== imageSize)
    warnings.push(
      `--resolution is ${resolution}, but the model was trained on images of ${imageSize} pixels: --resolution ${imageSize} is what it does best`,
    );
  const perStep = batchSize * accumulated * worldSize;
  if (perStep > rows)
    warnings.push(
      `A step takes ${perStep} rows (--batch-size ${batchSize}${accumulated === 1 ? '' : ` × --gradient-accumulation-steps ${accumulated}`}${worldSize === 1 ? '' : ` × ${worldSize} processes`}), but the dataset has ${rows}: every epoch is one step ${buckets ? 'of each bucket' : `of ${rows} rows`}`,
    );
  return warnings;
}
