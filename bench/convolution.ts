/**
 * @file Measures our 3 × 3 convolution and LibTorch's in turn, in the shapes of the models: processor time forward and of the gradient of
 * the input, and the largest error of both beside float64. What the table in src/nn/convolution-kernel.ts is made of.
 *
 *     npx tsx bench/convolution.ts [rounds] [part of a name] [threads]
 */
import { cpus } from 'node:os';
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

const ours = op('ip_adapter::conv3x3(Tensor x, Tensor weight, Tensor? bias) -> Tensor');
const theirs = op(
  'aten::conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[2] stride=1, int[2] padding=0, int[2] dilation=1, int groups=1) -> Tensor',
);
const kernels = {
  ours: (x: Tensor, weight: Tensor, bias: Tensor) => ours(x, weight, bias),
  theirs: (x: Tensor, weight: Tensor, bias: Tensor) => theirs(x, weight, bias, [1, 1], [1, 1]),
};
type Kernel = keyof typeof kernels;

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
  'shape | forward: ours, LibTorch GFLOP/s, ratio (least … most) | gradient: the same | error: ours, LibTorch',
);
const sums: Record<string, number[]> = {};
for (const [name, batch, from, to, size, weight] of shapes.filter(([one]) => one.includes(filter))) {
  const [x, kernel, bias] = [randn([batch, from, size, size]), randn([to, from, 3, 3]), randn([to])];
  const gradient = randn([batch, to, size, size]);
  const flop = 2 * 9 * batch * from * to * size * size;
  const forward = (which: Kernel) => (): void => {
    using _ = noGrad();
    tidy(() => void kernels[which](x, kernel, bias));
  };
  const cells: string[] = [];
  const times: Record<'forward' | 'gradient', Record<Kernel, number[]>> = {
    forward: { ours: [], theirs: [] },
    gradient: { ours: [], theirs: [] },
  };
  for (let round = 0; round <= Number(rounds); round++)
    for (const which of round % 2 ? (['theirs', 'ours'] as const) : (['ours', 'theirs'] as const)) {
      const f = measure(forward(which));
      x.requiresGrad = true;
      const out = kernels[which](x, kernel, bias);
      const g = measure(() => backward(out, { gradient, retainGraph: true }));
      x.requiresGrad = false;
      x.grad = null;
      out.dispose();
      if (round === 0) continue;
      times.forward[which].push(f);
      times.gradient[which].push(g);
    }
  for (const part of ['forward', 'gradient'] as const) {
    const { ours: a, theirs: b } = times[part];
    const ratios = b.map((seconds, i) => seconds / (a[i] as number));
    const [mine, other] = [median(a), median(b)];
    const rate = (seconds: number): string => (flop / seconds / 1e9).toFixed(1);
    cells.push(
      `${rate(mine)} ${rate(other)} ${(other / mine).toFixed(2)} (${Math.min(...ratios).toFixed(2)} … ${Math.max(...ratios).toFixed(2)})`,
    );
    if (weight > 0)
      for (const [which, seconds] of [
        ['ours', mine],
        ['theirs', other],
      ] as const) {
        const key = `${name.slice(0, 3)} ${part}`;
        sums[key] ??= [0, 0];
        const sum = sums[key] as number[];
        sum[which === 'ours' ? 0 : 1] =
          (sum[which === 'ours' ? 0 : 1] as number) + (weight * 1e9 * seconds) / flop;
      }
  }
  // The reference in float64 takes long: a part of the output channels suffices.
  const errors = tidy(() => {
    const few = [kernel.slice(0, 0, Math.min(to, 4)), bias.slice(0, 0, Math.min(to, 4))] as const;
    const exact = theirs(x.to('float64'), few[0].to('float64'), few[1].to('float64'), [1, 1], [1, 1]);
    return (['ours', 'theirs'] as const).map((which) => {
      using _ = noGrad();
      return error(kernels[which](x, kernel, bias).slice(1, 0, Math.min(to, 4)), exact);
    });
  });
  console.log(
    `${name} ${from} → ${to} | ${cells.join(' | ')} | ${errors.map((one) => one.toExponential(1)).join(' ')}`,
  );
}
for (const [key, [a = 0, b = 0]] of Object.entries(sums))
  console.log(`${key}, by GFLOP: ours ${a.toFixed(2)} s, LibTorch ${b.toFixed(2)} s: ${(b / a).toFixed(2)}`);
