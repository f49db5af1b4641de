/** @file Tensors that a sampler keeps from step to step. */
import type { Tensor } from '../torch/index.js';

/** Up to `size` tensors, the newest first; older ones are disposed. */
export class History implements Disposable {
  readonly #size: number;
  #tensors: Tensor[] = [];

  constructor(size: number) {
    this.#size = size;
  }

  get length(): number {
    return this.#tensors.length;
  }

  /** Keeps a tensor, which from then on belongs to the history. */
  push(tensor: Tensor): void {
    this.#tensors.unshift(tensor);
    for (const oldest of this.#tensors.splice(this.#size)) oldest.dispose();
  }

  /** Returns the newest for 0, the one before for 1. */
  at(index: number): Tensor {
    return this.#tensors[index] as Tensor;
  }

  all(): readonly Tensor[] {
    return this.#tensors;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#tensors) tensor.dispose();
    this.#tensors = [];
  }
}

/** Returns Σ weights[i]·tensors[i], over the weights. */
export function weightedSum(tensors: readonly Tensor[], weights: readonly number[]): Tensor {
  const [first, ...rest] = tensors as [Tensor, ...Tensor[]];
  return rest
    .slice(0, weights.length - 1)
    .reduce((sum, one, i) => sum.add(one, weights[i + 1]), first.mul(weights[0] as number));
}
