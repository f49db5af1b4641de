/** @file Gradient clipping by the global norm (Pascanu et al., arXiv 1211.5063, algorithm 1). */
import { noGrad, op, stack, type Tensor, tidy } from '../torch/index.js';

/** Returns the gradients of those parameters that have one. */
export function gradientsOf(parameters: readonly Tensor[]): Tensor[] {
  return parameters.map(({ grad }) => grad).filter((grad) => grad !== null);
}

/** Returns the Euclidean norm of all gradients together, a scalar tensor. It is not finite if any gradient is not. */
export function gradNorm(gradients: readonly Tensor[]): Tensor {
  using _ = noGrad();
  return tidy(() => aten.vectorNorm(stack(aten.foreachNorm(gradients) as Tensor[])));
}

/**
 * Multiplies the gradients in place by min(1, maxNorm / (norm + 1e-6)), like torch.nn.utils.clip_grad_norm_, without
 * synchronizing with the device.
 * @param norm the result of `gradNorm`
 */
export function clipGradNorm(gradients: readonly Tensor[], norm: Tensor, maxNorm: number): void {
  using _ = noGrad();
  tidy(() => {
    const factor = norm.add(1e-6).pow(-1).mul(maxNorm).clamp(null, 1);
    for (const gradient of gradients) gradient.mul_(factor);
  });
}

const aten = {
  foreachNorm: op('aten::_foreach_norm.Scalar(Tensor[] self, Scalar ord=2) -> Tensor[]'),
  vectorNorm: op(
    'aten::linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor',
  ),
};
