/** @file Gradient mode and backward. */
import { native } from './native.js';
import { op, type Tensor } from './tensor.js';

/** Disables gradient recording until the result is disposed: `using _ = noGrad();` */
export function noGrad(): Disposable {
  const wasEnabled = native.setGradEnabled(false);
  return { [Symbol.dispose]: () => void native.setGradEnabled(wasEnabled) };
}

/** Whether operators record the graph that backward needs. */
export function isGradEnabled(): boolean {
  return native.isGradEnabled();
}

export interface BackwardOptions {
  /** The gradient of the root, in the root's shape. Default for a scalar: 1. */
  gradient?: Tensor;
  /** Keeps the graph, so that backward can run through it again. */
  retainGraph?: boolean;
}

/** Adds the gradients of `root` to `.grad` of every leaf that it depends on and that requires a gradient. */
export function backward(root: Tensor, { gradient, retainGraph }: BackwardOptions = {}): void {
  backwardOp(root, [], gradient, retainGraph);
}

const backwardOp = op(
  'aten::_backward(Tensor self, Tensor[] inputs, Tensor? gradient=None, bool? retain_graph=None, bool create_graph=False) -> ()',
);
