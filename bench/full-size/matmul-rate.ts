/** @file Measures the rate of a large matrix product, with which other rates are compared. */
import { noGrad, randn, tidy } from '../../src/torch/index.js';
import { median } from '../side-by-side.js';

/** Returns the median GFLOP/s of a few 2048³ products in float32. */
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
