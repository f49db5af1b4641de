/**
 * @file Benchmarks operator overhead, and the most expensive shapes of SD 1.5 at 512 px.
 *
 *     npx tsx bench/ops.ts [rounds]
 */
import { attention, conv2d } from '../src/nn/functional.js';
import { noGrad, ones, randn } from '../src/torch/index.js';
import { sideBySide } from './side-by-side.js';

const small = ones([4]);
const [q, k, v] = [randn([1, 8, 4096, 40]), randn([1, 8, 4096, 40]), randn([1, 8, 4096, 40])];
const [image, kernel] = [randn([1, 320, 64, 64]), randn([320, 320, 3, 3])];
const [a, b] = [randn([2048, 2048]), randn([2048, 2048])];

using _ = noGrad();
await sideBySide(
  [
    { name: 'tiny op', count: 20_000, run: () => small.add(small) },
    { name: 'attention', count: 1, flop: 4 * 8 * 4096 * 4096 * 40, run: () => attention(q, k, v) },
    {
      name: 'conv',
      count: 2,
      flop: 2 * 320 * 320 * 9 * 64 * 64,
      run: () => conv2d(image, kernel, null, 1, 1),
    },
    { name: 'matmul', count: 1, flop: 2 * 2048 ** 3, run: () => a.matmul(b) },
  ],
  { script: 'ops.py', rounds: Number(process.argv[2] ?? 7) },
);
