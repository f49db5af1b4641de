/** @file Gradients: switching them off, and backward. */
import { native } from './native.js';
import { op, type Tensor } from './tensor.js';

/** Until disposed, operators record nothing for backward: `using _ = noGrad();` */
export function noGrad(): Disposable {
  const before = native.setGradEnabled(false);
  return { [Symbol.dispose]: () => void native.setGradEnabled(before) };
}

/** Whether operators record what backward needs. */
export function isGradEnabled(): boolean {
  return native.isGradEnabled();
}

/** Adds the gradients of a scalar to `.grad` of every tensor that requires one. */
export function backward(loss: Tensor): void {
  backwardOp(loss, []);
}

const backwardOp = op(
  'aten::_backward(Tensor self, Tensor[] inputs, Tensor? gradient=None, bool? retain_graph=None, bool create_graph=False) -> ()',
);
