/**
 * @file Measures the CPU time of our attention and LibTorch's fused one alternately, in the shapes of the models, forward and with backward:
 * what the table in src/nn/attention-kernel.ts is made of. Needs LibTorch 2.0 or newer.
 *
 *     npx tsx bench/attention.ts [rounds] [part of a name]
 */
import { availableParallelism, cpus } from 'node:os';
import {
  backward,
  noGrad,
  op,
  randn,
  setNumThreads,
  type Tensor,
  tidy,
  torchVersion,
} from '../src/torch/index.js';

const ours = op('ip_adapter::attention(Tensor q, Tensor k, Tensor v, float scale) -> Tensor');
const theirs = op(
  'aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False) -> Tensor',
);

/** name, batch, heads, queries, keys, width of a head, whether it is differentiated in training */
type Shape = readonly [string, number, number, number, number, number, boolean];
const self = (model: string, heads: number, size: number, width: number): Shape[] => [
  [`${model} self ${size}²`, 1, heads, size * size, size * size, width, true],
  [`${model} text ${size}²`, 1, heads, size * size, 77, width, true],
  [`${model} image ${size}²`, 1, heads, size * size, 16, width, true],
];
const shapes: readonly Shape[] = [
  ...self('SD 1.5, 40', 8, 64, 40),
  ...self('SD 1.5, 80', 8, 32, 80),
  ...self('SD 1.5, 160', 8, 16, 160),
  ...self('SD 1.5, 160', 8, 8, 160),
  ...self('SD 1.5, 40', 8, 32, 40),
  ...self('SD 1.5, 80', 8, 16, 80),
  ...self('SDXL, 64', 10, 64, 64),
  ...self('SDXL, 64', 20, 32, 64),
  ...self('SDXL, 64', 10, 32, 64),
  ...self('SDXL, 64', 20, 16, 64),
  ['CLIP ViT-H', 1, 16, 257, 257, 80, false],
  ['Resampler', 1, 12, 16, 273, 64, true],
  ['VAE 64²', 1, 1, 4096, 4096, 512, false],
  ['VAE 32²', 1, 1, 1024, 1024, 512, false],
];

/** The rows of a head are apart, as linear layers give them: [batch, n, heads, width], seen as [batch, heads, n, width]. */
const input = (batch: number, heads: number, n: number, width: number): Tensor =>
  randn([batch, n, heads, width]).transpose(1, 2);

/** CPU seconds of all threads, which other work on the machine changes least. */
function cpuSeconds(): number {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
}

/** CPU seconds of one call; short ones are called several times. */
function measure(run: () => void): number {
  const [begin, start] = [performance.now(), cpuSeconds()];
  let calls = 0;
  do {
    run();
    calls++;
  } while (performance.now() - begin < 30);
  return (cpuSeconds() - start) / calls;
}

const ms = (seconds: number): string => (seconds * 1000).toFixed(2).padStart(9);

const rounds = Number(process.argv[2] ?? 7);
const filter = process.argv[3] ?? '';
setNumThreads(availableParallelism());
console.log(
  `LibTorch ${torchVersion()}, ${availableParallelism()} × ${cpus()[0]?.model.trim()}, least of ${rounds} in turn, CPU ms of all threads`,
);
console.log(
  `${'shape'.padEnd(24)}${'heads × n × m × d'.padEnd(26)}  forward: ours LibTorch  ratio  with backward: ours LibTorch  ratio`,
);
for (const [name, batch, heads, n, m, width, isTrained] of shapes.filter(([one]) => one.includes(filter))) {
  const [q, k, v] = [
    input(batch, heads, n, width),
    input(batch, heads, m, width),
    input(batch, heads, m, width),
  ];
  const scale = width ** -0.5;
  const kernels = {
    ours: () => ours(q, k, v, scale),
    theirs: () => theirs(q, k, v, null, 0, false),
  };
  const gradient = randn([batch, n, heads, width]).transpose(1, 2);
  const forward = (kernel: keyof typeof kernels) => () => {
    using _ = noGrad();
    tidy(() => void kernels[kernel]());
  };
  const both = (kernel: keyof typeof kernels) => () => {
    for (const x of [q, k, v]) x.requiresGrad = true;
    tidy(() => {
      backward(kernels[kernel](), { gradient });
    });
    for (const x of [q, k, v]) x.grad = null;
  };
  const cells: string[] = [];
  for (const work of isTrained ? [forward, both] : [forward]) {
    const times: Record<keyof typeof kernels, number[]> = { ours: [], theirs: [] };
    for (let round = 0; round <= rounds; round++)
      for (const kernel of round % 2 ? (['theirs', 'ours'] as const) : (['ours', 'theirs'] as const)) {
        const seconds = measure(work(kernel));
        if (round > 0) times[kernel].push(seconds);
      }
    const [a, b] = [Math.min(...times.ours), Math.min(...times.theirs)];
    cells.push(`${ms(a)}${ms(b)}  ${(b / a).toFixed(2)}`);
  }
  const size = `${heads} × ${n} × ${m} × ${width}`;
  console.log(`${name.padEnd(24)}${size.padEnd(26)}  ${cells.join('   ')}`);
}
