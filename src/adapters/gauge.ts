/**
 * @file The gauge: how large an adapter's addition is beside the attention to the text, at each site. Far below 1 the image
 * hardly counts there; far above 1 the text hardly does.
 */
import type { SiteAddition } from '../models/layers/attention-site.js';
import { type Tensor, tidy } from '../torch/index.js';

/** Sums of squares by the name of the site, in the order of the backbone. */
export type GaugeSums = Record<string, { image: number; text: number }>;

export class Gauge {
  readonly #sums = new Map<string, { image: number; text: number }>();

  /** @param sums of other rows, which count too */
  constructor(sums: readonly GaugeSums[] = []) {
    for (const some of sums)
      for (const [name, { image, text }] of Object.entries(some)) this.#add(name, image, text);
  }

  /** Returns an addition that does the same, and is measured. Without gradients only. */
  observe(addition: SiteAddition): SiteAddition {
    return {
      at: (call) => {
        const added = addition.at(call);
        const image = added === null ? 0 : added.weight ** 2 * sumOfSquares(added.hidden);
        this.#add(call.site.name, image, sumOfSquares(call.attended));
        return added;
      },
    };
  }

  #add(name: string, image: number, text: number): void {
    const sums = this.#sums.get(name) ?? { image: 0, text: 0 };
    this.#sums.set(name, { image: sums.image + image, text: sums.text + text });
  }

  get sums(): GaugeSums {
    return Object.fromEntries(this.#sums);
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
