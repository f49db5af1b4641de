/**
 * @file Measures our 3 × 3 convolutions and LibTorch's in turn, in the shapes of the models: processor time forward and of the gradient of
 * the input, and the largest error of each beside float64. What the table in src/nn/convolution-kernel.ts is made of.
 *
 *     npx tsx bench/convolution.ts [rounds] [part of a name] [threads]
 */
import { cpus } from 'node:os';
import { tileOfConvolution } from '../src/nn/convolution-kernel.js';
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
import { median } from './side-by-side.js';

const ours = op('ip_adapter::conv3x3(Tensor x, Tensor weight, Tensor? bias, int tile) -> Tensor');
const theirs = op(
  'aten::conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[2] stride=1, int[2] padding=0, int[2] dilation=1, int groups=1) -> Tensor',
);
const kernels = {
  4: (x: Tensor, weight: Tensor, bias: Tensor) => ours(x, weight, bias, 4),
  2: (x: Tensor, weight: Tensor, bias: Tensor) => ours(x, weight, bias, 2),
  theirs: (x: Tensor, weight: Tensor, bias: Tensor) => theirs(x, weight, bias, [1, 1], [1, 1]),
};
type Kernel = keyof typeof kernels;
const names = [4, 2, 'theirs'] as const satisfies readonly Kernel[];

/** name, batch, input and output channels, height and width, and for how many GFLOP of a model's call it stands */
type Shape = readonly [name: string, batch: number, from: number, to: number, size: number, weight: number];
const shapes: readonly Shape[] = [
  // A call of SD 1.5's UNet at 512 px, 394 GFLOP, and of its VAE's encoder, 1006: the shapes between these count with the next one.
  ['SD 1.5 64²', 1, 320, 320, 64, 53],
  ['SD 1.5 64²', 1, 640, 320, 64, 53],
  ['SD 1.5 64²', 1, 640, 640, 64, 30],
  ['SD 1.5 32²', 1, 640, 640, 32, 49],
  ['SD 1.5 32²', 1, 1280, 640, 32, 49],
  ['SD 1.5 32²', 1, 1280, 1280, 32, 30],
  ['SD 1.5 16²', 1, 1280, 1280, 16, 57],
  ['SD 1.5 16²', 1, 2560, 1280, 16, 41],
  ['SD 1.5 8²', 1, 1280, 1280, 8, 21],
  ['SD 1.5 8²', 1, 2560, 1280, 8, 11],
  ['VAE 512²', 1, 128, 128, 512, 309],
  ['VAE 256²', 1, 256, 256, 256, 271],
  ['VAE 128²', 1, 512, 512, 128, 271],
  ['VAE 64²', 1, 512, 512, 64, 155],
  ['SDXL 128²', 1, 320, 320, 128, 0],
  ['batch of 4, 16²', 4, 1280, 1280, 16, 0],
  ['batch of 4, 8²', 4, 1280, 1280, 8, 0],
  ['narrow, 64²', 1, 4, 320, 64, 0],
  ['narrow, 64²', 1, 320, 4, 64, 0],
  ['narrow, 128²', 1, 16, 16, 128, 0],
  ['narrow, 64²', 1, 32, 32, 64, 0],
  ['narrow, 64²', 1, 64, 64, 64, 0],
  ['narrow, 8²', 1, 64, 64, 8, 0],
  ['narrow, 8²', 1, 128, 128, 8, 0],
  ['odd, 33²', 1, 320, 320, 33, 0],
];

const emptyTimes = (): Record<Kernel, number[]> => ({ 4: [], 2: [], theirs: [] });

/** Processor seconds of one call; short ones are called several times. */
function measure(run: () => void): number {
  const seconds = (): number => process.cpuUsage().user / 1e6;
  const [begin, start] = [performance.now(), seconds()];
  let calls = 0;
  do {
    run();
    calls++;
  } while (performance.now() - begin < 20);
  return (seconds() - start) / calls;
}

/** The largest difference, relative to the largest number. */
const error = (x: Tensor, exact: Tensor): number =>
  x.to('float64').sub(exact).abs().max().item() / exact.abs().max().item();

/** The product's rate, in GFLOP/s: the most that a convolution without Winograd's algorithm could reach. */
function productRate(): number {
  const [a, b] = [randn([1536, 1536]), randn([1536, 1536])];
  const times = Array.from({ length: 5 }, () => measure(() => tidy(() => void a.matmul(b))));
  return (2 * 1536 ** 3) / median(times) / 1e9;
}

const [rounds = '5', filter = '', threads = '1'] = process.argv.slice(2);
setNumThreads(Number(threads));
console.log(
  `LibTorch ${torchVersion()}, ${threads} of ${cpus().length} × ${cpus()[0]?.model.trim()}, medians of ${rounds} in turn, processor time of all threads; product ${productRate().toFixed(0)} GFLOP/s`,
);
console.log(
  'shape | GFLOP/s forward: tiles of 4 × 4, of 2 × 2, LibTorch | of the gradient: the same | chosen / LibTorch: forward, gradient | error: the three',
);
const sums: Record<string, { chosen: number; theirs: number }> = {};
for (const [name, batch, from, to, size, weight] of shapes.filter(([one]) => one.includes(filter))) {
  const [x, kernel, bias] = [randn([batch, from, size, size]), randn([to, from, 3, 3]), randn([to])];
  const gradient = randn([batch, to, size, size]);
  const gflop = (2 * 9 * batch * from * to * size * size) / 1e9;
  const seconds = { forward: emptyTimes(), gradient: emptyTimes() };
  for (let round = 0; round <= Number(rounds); round++)
    for (const which of round % 2 ? names.toReversed() : names) {
      const forward = measure(() => {
        using _ = noGrad();
        tidy(() => void kernels[which](x, kernel, bias));
      });
      x.requiresGrad = true;
      const out = kernels[which](x, kernel, bias);
      const backwards = measure(() => backward(out, { gradient, retainGraph: true }));
      x.requiresGrad = false;
      x.grad = null;
      out.dispose();
      if (round === 0) continue;
      seconds.forward[which].push(forward);
      seconds.gradient[which].push(backwards);
    }
  const shape = { inChannels: from, outChannels: to, height: size, width: size, kernel: [3, 3] };
  const chosen = tileOfConvolution({ ...shape, stride: 1, padding: 1, dtype: 'float32' }) ?? 'theirs';
  const rates: string[] = [];
  const ratios: string[] = [];
  for (const part of ['forward', 'gradient'] as const) {
    const times = seconds[part];
    rates.push(names.map((which) => (gflop / median(times[which])).toFixed(0)).join(' '));
    const each = times.theirs.map((one, i) => one / (times[chosen][i] as number));
    ratios.push(
      `${median(each).toFixed(2)} (${Math.min(...each).toFixed(2)} … ${Math.max(...each).toFixed(2)})`,
    );
    if (weight === 0) continue;
    const key = `${name.split(' ')[0]} ${part}`;
    sums[key] ??= { chosen: 0, theirs: 0 };
    sums[key].chosen += (weight * median(times[chosen])) / gflop;
    sums[key].theirs += (weight * median(times.theirs)) / gflop;
  }
  // The reference in float64 takes long: a part of the output channels suffices.
  const errors = tidy(() => {
    const few = [kernel.slice(0, 0, Math.min(to, 4)), bias.slice(0, 0, Math.min(to, 4))] as const;
    const exact = theirs(x.to('float64'), few[0].to('float64'), few[1].to('float64'), [1, 1], [1, 1]);
    using _ = noGrad();
    return names.map((which) => error(kernels[which](x, kernel, bias).slice(1, 0, Math.min(to, 4)), exact));
  });
  const cells = [`${name} ${from} → ${to}`, ...rates, ratios.join(', ')];
  console.log([...cells, errors.map((one) => one.toExponential(1)).join(' ')].join(' | '));
}
for (const [key, { chosen, theirs }] of Object.entries(sums))
  console.log(
    `${key}, by GFLOP: ours ${chosen.toFixed(2)} s, LibTorch ${theirs.toFixed(2)} s: ${(theirs / chosen).toFixed(2)}`,
  );
