/**
 * @file Gradient checkpointing (Chen et al., arXiv 1604.06174; PyTorch `torch/utils/checkpoint.py`): only the inputs of a
 * segment of the forward pass are kept, and backward computes the segment again.
 *
 *     using checkpoints = new GradientCheckpoints();
 *     const loss = model.call(x);      // calls checkpoint() inside
 *     backward(loss);                  // stops at the output of the last segment
 *     checkpoints.backward();          // continues from there, segment by segment
 *
 * PyTorch recomputes segments inside the autograd engine, whose threads cannot call JavaScript. Here the graph is cut
 * instead: the inputs and outputs of a segment are leaves, and their gradients are passed on to the tensors they stand for.
 */
import { backward, isGradEnabled, noGrad } from './autograd.js';
import { tidy, untidied } from './scope.js';
import { op, type Tensor } from './tensor.js';
import { mapTensors } from './tensor-tree.js';

const aten = { alias: op('aten::alias(Tensor(a) self) -> Tensor(a)') };

/** A leaf that stands for a tensor with a graph. */
interface Cut {
  leaf: Tensor;
  /** Returns the tensor with its graph, through which the leaf's gradient is propagated. */
  recompute(): Tensor;
  /** Whether another backward may go through the same graph. */
  retainGraph: boolean;
}

let current: GradientCheckpoints | null = null;

/** While it is not disposed, `checkpoint` keeps only the inputs of segments. Segments must be deterministic. */
export class GradientCheckpoints implements Disposable {
  readonly #outer = current;
  readonly #cuts: Cut[] = [];
  /** For each segment input, the leaf that replaces it; it lives until backward, whatever scopes end. */
  readonly #inputs = new Map<Tensor, Tensor>();
  readonly #held: Tensor[] = [];

  constructor() {
    current = this;
  }

  /** Continues backward from the last segment's output through all segments, to the leaves outside them. */
  backward(): void {
    // Autograd records a segment that is computed again; it must not be cut again.
    const recording = current;
    current = null;
    try {
      // Users of a leaf were recorded after it, so its gradient is complete when it is reached.
      for (let cut = this.#cuts.pop(); cut !== undefined; cut = this.#cuts.pop()) this.#propagate(cut);
    } finally {
      current = recording;
    }
  }

  /** @internal */
  run<Inputs>(segment: (inputs: Inputs) => Tensor, inputs: Inputs): Tensor {
    const leaves = mapTensors(inputs, (input) => this.#leafFor(input));
    const leaf = untidied(() => {
      using _ = noGrad();
      return tidy(() => segment(leaves));
    });
    this.#cut({ leaf, recompute: () => segment(leaves), retainGraph: false });
    this.#inputs.set(leaf, leaf);
    return leaf;
  }

  #leafFor(input: Tensor): Tensor {
    const known = this.#inputs.get(input);
    if (known !== undefined) return known;
    const leaf = untidied(() => input.detach());
    this.#inputs.set(input, leaf);
    if (input.requiresGrad) {
      const original = untidied(() => aten.alias(input));
      this.#held.push(original);
      this.#cut({ leaf, recompute: () => original, retainGraph: true });
    } else this.#held.push(leaf);
    return leaf;
  }

  #cut(cut: Cut): void {
    cut.leaf.requiresGrad = true;
    this.#cuts.push(cut);
  }

  #propagate({ leaf, recompute, retainGraph }: Cut): void {
    tidy(() => {
      const gradient = leaf.grad;
      leaf.dispose();
      if (gradient === null) return;
      const tensor = recompute();
      if (tensor.requiresGrad) backward(tensor, { gradient, retainGraph });
    });
  }

  [Symbol.dispose](): void {
    current = this.#outer;
    for (const { leaf } of this.#cuts) leaf.dispose();
    for (const tensor of this.#held) tensor.dispose();
  }
}

/**
 * Runs a segment; backward computes it again if GradientCheckpoints are active and gradients are enabled.
 * @param segment a deterministic function; every tensor it uses, apart from parameters, must be one of its inputs: the
 * graph of a tensor that it closes over would be traversed a second time
 * @param inputs a record, see tensor-tree.ts
 */
export function checkpoint<Inputs>(segment: (inputs: Inputs) => Tensor, inputs: Inputs): Tensor {
  return current === null || !isGradEnabled() ? segment(inputs) : current.run(segment, inputs);
}
