/** @file Gradients: switching them off, and backward. */
import { native } from './native.js';
import { op, type Tensor } from './tensor.js';

/** Until disposed, operators record nothing for backward: `using _ = noGrad();` */
export function noGrad(): Disposable {
  const before = native().setGradEnabled(false);
  return { [Symbol.dispose]: () => void native().setGradEnabled(before) };
}

/** Whether operators record what backward needs. */
export function isGradEnabled(): boolean {
  return native().isGradEnabled();
}

export interface BackwardOptions {
  /** Of the root, in its shape; may be left out for a scalar, where it is 1. */
  gradient?: Tensor;
  /** Keeps what backward needs, for a second one through the same graph. */
  retainGraph?: boolean;
}

/** Adds the gradients of `root` to `.grad` of every leaf that requires one and that it was computed from. */
export function backward(root: Tensor, { gradient, retainGraph }: BackwardOptions = {}): void {
  backwardOp(root, [], gradient, retainGraph);
}

const backwardOp = op(
  'aten::_backward(Tensor self, Tensor[] inputs, Tensor? gradient=None, bool? retain_graph=None, bool create_graph=False) -> ()',
);
