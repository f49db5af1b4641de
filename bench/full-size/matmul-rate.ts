/** @file What the machine can do: the rate of one large matrix product, which all that computes is held against. */
import { noGrad, randn, tidy } from '../../src/torch/index.js';
import { median } from '../side-by-side.js';

/** GFLOP/s of a 2048³ product in float32, the median of a few. */
export function matmulRate(): number {
  using _ = noGrad();
  const [a, b] = [randn([2048, 2048]), randn([2048, 2048])];
  const seconds = Array.from({ length: 8 }, () => {
    const begin = performance.now();
    tidy(() => void a.matmul(b));
    return (performance.now() - begin) / 1000;
  });
  for (const matrix of [a, b]) matrix.dispose();
  return (2 * 2048 ** 3) / median(seconds) / 1e9;
}
