/**
 * @file The gauge: how large an adapter's addition is beside the attention to the text, at each site. Far below 1 the image
 * hardly counts there; far above 1 the text hardly does.
 */
import type { SiteAddition } from '../models/layers/attention-site.js';
import { type Tensor, tidy } from '../torch/index.js';

export class Gauge {
  /** Sums of squares. */
  readonly #sums = new Map<string, { image: number; text: number }>();

  /** Returns an addition that does the same, and is measured. Without gradients only. */
  observe(addition: SiteAddition): SiteAddition {
    return {
      at: (call) => {
        const added = addition.at(call);
        const sums = this.#sums.get(call.site.name) ?? { image: 0, text: 0 };
        if (added !== null) sums.image += added.weight ** 2 * sumOfSquares(added.hidden);
        sums.text += sumOfSquares(call.attended);
        this.#sums.set(call.site.name, sums);
        return added;
      },
    };
  }

  /** Returns ‖scale · image attention‖ / ‖text attention‖ by the name of the site, in the order of the backbone. */
  read(): Record<string, number> {
    return Object.fromEntries(
      Array.from(this.#sums, ([name, { image, text }]) => [name, Math.sqrt(image / text)]),
    );
  }
}

function sumOfSquares(x: Tensor): number {
  return tidy(() => x.to('float32').square().mean().item() as number) * x.numel;
}
