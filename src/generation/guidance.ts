/**
 * @file Classifier-free guidance (Ho & Salimans, arXiv 2207.12598): the step from a prediction for the negative prompt to
 * one for the prompt, lengthened. Its rescaling is that of Lin et al. (arXiv 2305.08891, section 3.4; diffusers
 * `rescale_noise_cfg`), its limitation to a part of the steps that of Kynkäänniemi et al. (arXiv 2404.07724).
 */
import { op, type Tensor } from '../torch/index.js';

/** A row of each image in a call of the backbone. */
export type Side = 'negative' | 'positive';

export interface GuidanceSettings {
  /** Factor on the step from the unconditional to the conditional prediction; 1 and less: no guidance. */
  guidanceScale: number;
  /** Share, 0 … 1, of the guided prediction that gets the standard deviation of the conditional one. */
  guidanceRescale?: number | undefined;
  /** The fractions of the steps, 0 … 1, between which guidance acts. */
  guidanceRange?: readonly [start: number, end: number] | undefined;
  /** Both predictions in one call of the backbone, or one after the other, which takes less memory. */
  guidanceBatch?: 'together' | 'in-turn' | undefined;
}

/**
 * Returns the prediction of a step, counted from 0.
 * @param predict calls the backbone with the latents of these sides, one after another along the batch
 */
export function guidedPrediction(
  predict: (sides: readonly Side[]) => Tensor,
  { guidanceScale, guidanceRescale = 0, guidanceRange, guidanceBatch }: GuidanceSettings,
  step: number,
  totalSteps: number,
): Tensor {
  if (guidanceScale <= 1 || !isInRange(guidanceRange ?? [0, 1], step, totalSteps))
    return predict(['positive']);
  const [without, conditional] =
    guidanceBatch === 'in-turn'
      ? [predict(['negative']), predict(['positive'])]
      : (predict(['negative', 'positive']).chunk(2) as [Tensor, Tensor]);
  const guided = without.add(conditional.sub(without), guidanceScale);
  return guidanceRescale === 0 ? guided : rescaled(guided, conditional, guidanceRescale);
}

/** Returns whether a step, counted from 0, lies between two fractions of all steps. */
export function isInRange(
  [start, end]: readonly [number, number],
  step: number,
  totalSteps: number,
): boolean {
  return step / totalSteps >= start && (step + 1) / totalSteps <= end;
}

const std = op('aten::std.dim(Tensor self, int[1]? dim, bool unbiased=True, bool keepdim=False) -> Tensor');

function rescaled(guided: Tensor, conditional: Tensor, share: number): Tensor {
  const deviation = (x: Tensor): Tensor => std(x, [1, 2, 3], true, true);
  const alike = guided.mul(deviation(conditional).div(deviation(guided)));
  return alike.mul(share).add(guided, 1 - share);
}
