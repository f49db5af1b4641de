/**
 * @file Loss scaling for float16 (Micikevicius et al., arXiv 1710.03740, section 3.2), by the rule of
 * torch.cuda.amp.GradScaler: gradients that float16 would round to 0 are computed of a larger loss.
 */
import { noGrad, type Tensor } from '../torch/index.js';

/** All that the next update depends on. */
export interface GradScalerState {
  /** What the loss is multiplied by. */
  scale: number;
  /** Updates since the scale last changed. */
  goodSteps: number;
}

const growthFactor = 2;
const backoffFactor = 0.5;
/** After so many good steps in a row the scale grows. */
const growthInterval = 2000;

export class GradScaler {
  #state: GradScalerState = { scale: 65536, goodSteps: 0 };

  get scale(): number {
    return this.#state.scale;
  }

  /** Brings the gradients of a scaled loss back to their size, in place. */
  unscale(gradients: readonly Tensor[]): void {
    using _ = noGrad();
    for (const gradient of gradients) gradient.mul_(1 / this.#state.scale);
  }

  /**
   * Follows up a backward: an overflow halves the scale, and many steps without one double it.
   * @param gradNorm of the unscaled gradients. The device is waited for.
   * @returns whether the gradients are fit for an update; after an overflow they are not
   */
  update(gradNorm: Tensor): boolean {
    const { scale, goodSteps } = this.#state;
    if (!Number.isFinite(gradNorm.item())) {
      this.#state = { scale: scale * backoffFactor, goodSteps: 0 };
      return false;
    }
    const isDue = goodSteps + 1 === growthInterval;
    const grown = Math.fround(scale * growthFactor);
    // In float32, as the loss is: it must not grow to infinity.
    this.#state = {
      scale: isDue && Number.isFinite(grown) ? grown : scale,
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
