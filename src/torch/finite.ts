/** @file Finds NaN and infinity in tensors. */
import { op, stack, type Tensor, tidy } from './index.js';

/**
 * Returns the first tensor that contains NaN or infinity, and which of the two; undefined where all values are finite.
 * Synchronizes with the device.
 * @param tensors floating-point tensors on one device, by name
 */
export function firstNonFinite(
  tensors: Iterable<readonly [string, Tensor]>,
): { name: string; value: number } | undefined {
  const named = [...tensors];
  if (named.length === 0) return undefined;
  const sums = tidy(() => stack(named.map(([, tensor]) => tensor.detach().sum().to('float32'))).toNumbers());
  for (const [i, [name, tensor]] of named.entries()) {
    if (Number.isFinite(sums[i])) continue;
    // A sum may overflow although all elements are finite, but is four times as fast as the largest magnitude.
    const largest = tidy(() =>
      vectorNorm(tensor.detach(), Number.POSITIVE_INFINITY, null, false, null).item(),
    );
    if (!Number.isFinite(largest)) return { name, value: largest };
  }
  return undefined;
}

const vectorNorm = op(
  'aten::linalg_vector_norm(Tensor self, Scalar ord=2, int[1]? dim=None, bool keepdim=False, *, ScalarType? dtype=None) -> Tensor',
);
