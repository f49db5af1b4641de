/**
 * @file Loss scaling for float16 (Micikevicius et al., arXiv 1710.03740, section 3.2) by the rule of
 * torch.cuda.amp.GradScaler: a larger loss keeps small gradients from being rounded to 0.
 */
import { noGrad, type Tensor } from '../torch/index.js';

/** The complete state of a GradScaler. */
export interface GradScalerState {
  /** The factor of the loss. */
  scale: number;
  /** Steps without overflow since the scale last changed. */
  goodSteps: number;
}

const growthFactor = 2;
const backoffFactor = 0.5;
/** The number of consecutive steps without overflow after which the scale grows. */
const growthInterval = 2000;

export class GradScaler {
  #state: GradScalerState = { scale: 65536, goodSteps: 0 };

  get scale(): number {
    return this.#state.scale;
  }

  /** Divides the gradients of a scaled loss by the scale, in place. */
  unscale(gradients: readonly Tensor[]): void {
    using _ = noGrad();
    for (const gradient of gradients) gradient.mul_(1 / this.#state.scale);
  }

  /**
   * Updates the scale after backward: an overflow halves it, and 2000 steps without one double it. Synchronizes with the
   * device.
   * @param gradNorm the norm of the unscaled gradients
   * @returns whether the gradients are finite and may be used for an update
   */
  update(gradNorm: Tensor): boolean {
    const { scale, goodSteps } = this.#state;
    if (!Number.isFinite(gradNorm.item())) {
      this.#state = { scale: scale * backoffFactor, goodSteps: 0 };
      return false;
    }
    const isDue = goodSteps + 1 === growthInterval;
    const nextScale = Math.fround(scale * growthFactor);
    // The loss is float32, in which the scale must stay finite.
    this.#state = {
      scale: isDue && Number.isFinite(nextScale) ? nextScale : scale,
      goodSteps: isDue ? 0 : goodSteps + 1,
    };
    return true;
  }

  stateDict(): GradScalerState {
    return { ...this.#state };
  }

  loadStateDict(state: GradScalerState): void {
    this.#state = { ...state };
  }
}
