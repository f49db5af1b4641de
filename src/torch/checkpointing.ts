/**
 * @file Gradient checkpointing (Chen et al., arXiv 1604.06174; PyTorch `torch/utils/checkpoint.py`): of a segment of
 * the forward pass only the inputs are kept, and backward computes it a second time.
 *
 *     using checkpoints = new GradientCheckpoints();
 *     const loss = model.call(x);      // calls checkpoint() inside
 *     backward(loss);                  // ends at the output of the last segment
 *     checkpoints.backward();          // goes on from there, segment by segment
 *
 * PyTorch runs the second pass from inside the autograd engine, whose threads may not enter JavaScript. Here the graph
 * is cut instead: what a segment gives, and what it takes from outside, are leaves, whose gradients are handed on.
 */
import { backward, isGradEnabled, noGrad } from './autograd.js';
import { tidy, untidied } from './scope.js';
import { op, type Tensor } from './tensor.js';
import { mapTensors } from './tensor-tree.js';

const aten = { alias: op('aten::alias(Tensor(a) self) -> Tensor(a)') };

/** A leaf in place of a tensor that has a graph. */
interface Cut {
  leaf: Tensor;
  /** The tensor with its graph, through which the leaf's gradient goes on. */
  remake(): Tensor;
  /** Whether others may go through the same graph. */
  retainGraph: boolean;
}

let current: GradientCheckpoints | null = null;

/** Until disposed, `checkpoint` keeps inputs alone. Not for segments whose results are random. */
export class GradientCheckpoints implements Disposable {
  readonly #outer = current;
  readonly #cuts: Cut[] = [];
  /** By the tensor that a segment takes: what it takes instead, alive until backward whatever scopes end. */
  readonly #inputs = new Map<Tensor, Tensor>();
  readonly #held: Tensor[] = [];

  constructor() {
    current = this;
  }

  /** Hands the gradients on that backward left at the last segment, down to every leaf from outside. */
  backward(): void {
    // A segment that is computed again is recorded by autograd, not here.
    const recording = current;
    current = null;
    try {
      // Whatever takes a leaf comes after it, so that its gradient is complete when its turn comes.
      for (let cut = this.#cuts.pop(); cut !== undefined; cut = this.#cuts.pop()) this.#handOn(cut);
    } finally {
      current = recording;
    }
  }

  /** @internal */
  run<Inputs>(segment: (inputs: Inputs) => Tensor, inputs: Inputs): Tensor {
    const taken = mapTensors(inputs, (input) => this.#take(input));
    const leaf = untidied(() => {
      using _ = noGrad();
      return tidy(() => segment(taken));
    });
    this.#cut({ leaf, remake: () => segment(taken), retainGraph: false });
    this.#inputs.set(leaf, leaf);
    return leaf;
  }

  #take(input: Tensor): Tensor {
    const known = this.#inputs.get(input);
    if (known !== undefined) return known;
    const leaf = untidied(() => input.detach());
    this.#inputs.set(input, leaf);
    if (input.requiresGrad) {
      const original = untidied(() => aten.alias(input));
      this.#held.push(original);
      this.#cut({ leaf, remake: () => original, retainGraph: true });
    } else this.#held.push(leaf);
    return leaf;
  }

  #cut(cut: Cut): void {
    cut.leaf.requiresGrad = true;
    this.#cuts.push(cut);
  }

  #handOn({ leaf, remake, retainGraph }: Cut): void {
    tidy(() => {
      const gradient = leaf.grad;
      leaf.dispose();
      if (gradient === null) return;
      const made = remake();
      if (made.requiresGrad) backward(made, { gradient, retainGraph });
    });
  }

  [Symbol.dispose](): void {
    current = this.#outer;
    for (const { leaf } of this.#cuts) leaf.dispose();
    for (const tensor of this.#held) tensor.dispose();
  }
}

/**
 * Runs a segment, and has it computed again in backward where there are GradientCheckpoints and gradients are wanted.
 * @param segment depends on nothing random, and on no tensor but its inputs and parameters: the graph of a tensor that it
 * only closes over would be gone through a second time
 * @param inputs a record, see tensor-tree.ts
 */
export function checkpoint<Inputs>(segment: (inputs: Inputs) => Tensor, inputs: Inputs): Tensor {
  return current === null || !isGradEnabled() ? segment(inputs) : current.run(segment, inputs);
}
