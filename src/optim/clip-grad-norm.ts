/** @file The global norm of gradients, and clipping by it (Pascanu et al., arXiv 1211.5063, algorithm 1). */
import { noGrad, op, stack, type Tensor, tidy } from '../torch/index.js';

/** The gradients that backward left at the parameters. */
export function gradientsOf(parameters: readonly Tensor[]): Tensor[] {
  return parameters.map(({ grad }) => grad).filter((grad) => grad !== null);
}

/** The Euclidean norm of all gradients as if they were one vector, a scalar; not finite where any of them is not. */
export function gradNorm(gradients: readonly Tensor[]): Tensor {
  using _ = noGrad();
  return tidy(() => aten.vectorNorm(stack(aten.foreachNorm(gradients) as Tensor[])));
}

/**
 * Shrinks the gradients in place by maxNorm / (norm + 1e-6) where that is below 1, as
 * torch.nn.utils.clip_grad_norm_ does; the device is not waited for.
 * @param norm what `gradNorm` gave for them
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
