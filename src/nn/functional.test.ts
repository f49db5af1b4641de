import { availableParallelism } from 'node:os';
import { describe, expect, it } from 'vitest';
import { expectAllclose, expectSameBytes } from '../../test/golden.js';
import {
  backward,
  full,
  Generator,
  memoryStats,
  randn,
  setNumThreads,
  type Tensor,
  tensor,
  tidy,
} from '../torch/index.js';
import {
  attention,
  geglu,
  gelu,
  groupNorm,
  interpolateNearest,
  isGegluFused,
  layerNorm,
  mseLoss,
  mseLossPerRow,
  pad,
  quickGelu,
} from './functional.js';

const generator = new Generator('cpu', 3);
const random = (...shape: number[]) => randn(shape, { generator });
const qkv = (n: number, m = n, batch = 2, heads = 2) =>
  [random(batch, heads, n, 4), random(batch, heads, m, 4), random(batch, heads, m, 6)] as [
    Tensor,
    Tensor,
    Tensor,
  ];

/** Computes attention by its definition, in float64, one query at a time. */
function slowAttention(q: Tensor, k: Tensor, v: Tensor, { isCausal = false, scale = 0.5 } = {}): Tensor {
  const [batch = 0, heads = 0, n = 0, d = 0] = q.shape;
  const m = k.shape[2] ?? 0;
  const e = v.shape[3] ?? 0;
  const [Q, K, V] = [q, k, v].map((t) => t.detach().toNumbers()) as [number[], number[], number[]];
  const at = (values: number[], head: number, rows: number, row: number, width: number) =>
    values.slice((head * rows + row) * width, (head * rows + row + 1) * width);
  const out: number[] = [];
  for (let head = 0; head < batch * heads; head++)
    for (let i = 0; i < n; i++) {
      const seen = Array.from({ length: isCausal ? Math.min(m, i + 1) : m }, (_, j) => j);
      const query = at(Q, head, n, i, d);
      const exps = seen.map((j) =>
        Math.exp(scale * at(K, head, m, j, d).reduce((sum, x, c) => sum + x * (query[c] ?? 0), 0)),
      );
      const total = exps.reduce((sum, x) => sum + x, 0);
      for (let c = 0; c < e; c++)
        out.push(seen.reduce((sum, j) => sum + ((exps[j] ?? 0) / total) * (at(V, head, m, j, e)[c] ?? 0), 0));
    }
  return tensor(out, [batch, heads, n, e]);
}

describe('attention', () => {
  it.each([
    ['no rows', 3, 5, 0],
    ['no queries', 0, 5, 2],
    ['no keys', 3, 0, 2],
  ])('of %s has the shape of its queries, and gradients', (_, n, m, batch) => {
    const inputs = qkv(n, m, batch);
    for (const input of inputs) input.requiresGrad = true;
    const out = attention(...inputs);
    expect(out.shape).toEqual([batch, 2, n, 6]);
    expect(out.toNumbers().every((value) => value === 0)).toBe(true);
    backward(out.sum([0, 1, 2, 3]));
    for (const input of inputs) expect(input.grad?.shape).toEqual(input.shape);
  });

  it('is softmax(q kᵀ / √d) v', () => {
    const inputs = qkv(5, 7);
    expectAllclose(attention(...inputs), slowAttention(...inputs), 1e-6);
  });

  it('takes another scale', () => {
    const inputs = qkv(5);
    expectAllclose(attention(...inputs, { scale: 0.2 }), slowAttention(...inputs, { scale: 0.2 }), 1e-6);
  });

  it('ignores later positions if causal', () => {
    const inputs = qkv(6);
    expectAllclose(
      attention(...inputs, { isCausal: true }),
      slowAttention(...inputs, { isCausal: true }),
      1e-6,
    );
  });

  it('accepts tensors whose heads are not contiguous', () => {
    const [q, k, v] = [5, 7, 7].map((n) => random(2, n, 3, 4).transpose(1, 2)) as [Tensor, Tensor, Tensor];
    expectAllclose(attention(q, k, v), slowAttention(q, k, v), 1e-6);
  });

  it('never stores the scores of many queries, in forward or backward', () => {
    // 2 heads × 4100² scores in float32 would take 128 MiB.
    // Equal widths, which LibTorch's fused attention requires.
    const inputs = [1, 2, 3].map(() => random(1, 2, 4100, 4)) as [Tensor, Tensor, Tensor];
    const initialBytes = memoryStats().cpuPeakBytes;
    for (const input of inputs) input.requiresGrad = true;
    tidy(() =>
      backward(
        attention(...inputs)
          .square()
          .sum(),
      ),
    );
    expect(memoryStats().cpuPeakBytes - initialBytes).toBeLessThan(24 * 2 ** 20);
  });

  // A tile is 96 queries and 256 keys, a panel 16 columns, a vector 8 numbers.
  it.each([
    { n: 1000, m: 3000, d: 4, e: 6 },
    { n: 97, m: 257, d: 40, e: 40 },
    { n: 96, m: 256, d: 64, e: 24 },
    { n: 1, m: 2, d: 8, e: 8 },
    { n: 5, m: 16, d: 160, e: 3 },
    { n: 200, m: 77, d: 20, e: 16 },
  ])('gives the same, with the same gradients, in tiles and as a whole: %j', ({ n, m, d, e }) => {
    const lengths = [n, m, m];
    const values = [d, d, e].map((width, i) => random(2, lengths[i] as number, 2, width).transpose(1, 2));
    const weight = random(2, 2, n, e);
    const atOnce = (q: Tensor, k: Tensor, v: Tensor) =>
      q
        .matmul(k.transpose(-2, -1))
        .mul(d ** -0.5)
        .softmax(-1)
        .matmul(v);
    const [tiles, whole] = [attention, atOnce].map((attend) => {
      const inputs = values.map((value) => value.detach()) as [Tensor, Tensor, Tensor];
      for (const input of inputs) input.requiresGrad = true;
      const out = attend(...inputs);
      backward(out.mul(weight).sum());
      return [out, ...inputs.map(({ grad }) => grad as Tensor)];
    }) as [Tensor[], Tensor[]];
    for (const [i, value] of tiles.entries()) expectAllclose(value, whole[i] as Tensor, 1e-5);
  });

  it('is bit-identical on one thread', () => {
    const inputs = [300, 500, 500].map((n) => random(1, 3, n, 16)) as [Tensor, Tensor, Tensor];
    const all = attention(...inputs);
    setNumThreads(1);
    try {
      expectSameBytes(attention(...inputs), all);
    } finally {
      setNumThreads(availableParallelism());
    }
  });

  it('handles scores of any size, and propagates NaN', () => {
    const [query, value] = [tensor([1, 0, 0, 0], [1, 1, 1, 4]), random(1, 1, 300, 8)];
    const keys = (last: number): Tensor =>
      tensor(
        Array.from({ length: 1200 }, (_, i) => (i % 4 !== 0 ? 0 : i === 1196 ? last : i % 3)),
        [1, 1, 300, 4],
      );
    const lastRow = value.slice(2, 299, 300);
    expectAllclose(attention(query, keys(1e6), value), lastRow, 1e-6);
    expect(attention(query, keys(-1e6), value).toNumbers().every(Number.isFinite)).toBe(true);
    expect(attention(query, keys(Number.NaN), value).toNumbers().every(Number.isNaN)).toBe(true);
  });

  it('upcasts scores that overflow the dtype', () => {
    const [q, k, v] = qkv(5).map((t) => t.to('bfloat16')) as [Tensor, Tensor, Tensor];
    const output = attention(q, k, v, { upcast: true });
    expect(output.dtype).toBe('bfloat16');
    const exact = slowAttention(...([q, k, v].map((t) => t.to('float32')) as [Tensor, Tensor, Tensor]));
    expectAllclose(output.to('float32'), exact, 0.01);
  });

  it('has the gradients of the definition', () => {
    const inputs = qkv(4, 5);
    const weight = random(2, 2, 4, 6);
    for (const input of inputs) input.requiresGrad = true;
    backward(
      attention(...inputs)
        .mul(weight)
        .sum(),
    );
    const value = (tensors: readonly Tensor[]) => {
      const out = slowAttention(...(tensors as [Tensor, Tensor, Tensor]));
      return out.mul(weight).sum().item();
    };
    for (const [i, input] of inputs.entries()) {
      const flat = input.detach().toNumbers();
      const at = 7;
      const moved = [1e-2, -1e-2].map((step) => {
        const changed = tensor(
          flat.map((x, j) => (j === at ? x + step : x)),
          input.shape,
        );
        return value(inputs.map((other, j) => (j === i ? changed : other)));
      }) as [number, number];
      const gradient = input.grad as Tensor;
      expect(gradient.toNumbers()[at]).toBeCloseTo((moved[0] - moved[1]) / 2e-2, 2);
    }
  });
});

describe('geglu', () => {
  // Whole vectors and remainders, and every magnitude, compared with float64.
  const rowsOf = (width: number) => randn([3, 7, 2 * width], { generator }).mul(3);
  const definition = (x: Tensor): Tensor => {
    const [value, gate] = x.to('float64').chunk(2, -1) as [Tensor, Tensor];
    return value.mul(gelu(gate));
  };

  it.each([1, 5, 8, 16, 31, 320])('is a · gelu(b), with its gradients, at width %d', (width) => {
    const [x, exact] = [rowsOf(width), rowsOf(width)];
    exact.copy_(x);
    for (const leaf of [x, exact]) leaf.requiresGrad = true;
    const weight = randn([3, 7, width], { generator });
    const [out, expected] = [geglu(x), definition(exact)];
    expectAllclose(out, expected, 3e-7);
    backward(out.mul(weight).sum());
    backward(expected.mul(weight).sum());
    expectAllclose(x.grad as Tensor, exact.grad as Tensor, 3e-7);
  });

  // LibTorch's gelu subtracts nearly equal numbers there.
  it.runIf(isGegluFused())('is as accurate where gelu is tiny as where it is large', () => {
    const gates = Array.from({ length: 321 }, (_, i) => -10 + i / 16);
    const x = tensor(
      gates.flatMap((gate) => [1, gate]),
      [gates.length, 2],
    );
    const [got, want] = [geglu(x).toNumbers(), gates.map(exactGelu)];
    for (const [i, gate] of gates.entries())
      expect(Math.abs((got[i] as number) / (want[i] as number) - 1) || 0, String(gate)).toBeLessThan(
        // e^(-t²/2) amplifies the rounding error of t²/2.
        3e-7 + 6e-8 * gate ** 2,
      );
  });

  it('accepts views, and propagates NaN and infinity', () => {
    const x = randn([6, 4], { generator }).transpose(0, 1);
    expectAllclose(geglu(x), geglu(x.contiguous()), 0);
    const [nan, inf] = [Number.NaN, Number.POSITIVE_INFINITY];
    const odd = tensor([nan, 1, 1, nan, 2, inf, 1, -100], [4, 2]);
    expect(geglu(odd).toNumbers()).toEqual([nan, nan, inf, -0]);
    expect(geglu(tensor([], [0, 4])).shape).toEqual([0, 2]);
    if (isGegluFused()) expect(() => geglu(tensor([1, 2, 3], [1, 3]))).toThrow('even width');
  });

  it('gives the same in other dtypes, within their rounding', () => {
    const x = rowsOf(16);
    expectAllclose(geglu(x.to('bfloat16')).to('float32'), geglu(x), 2e-2);
  });
});

/** Computes b Φ(b) in float64, for b < 0 by the continued fraction of Mills' ratio, which is accurate there. */
function exactGelu(b: number): number {
  const density = Math.exp(-(b ** 2) / 2) / Math.sqrt(2 * Math.PI);
  const t = Math.abs(b);
  let tail: number;
  if (t < 2) {
    // Φ(t) = 1/2 + φ(t) Σ t^(2k+1) / (1 · 3 · … (2k+1))
    let [term, sum] = [t, t];
    for (let k = 1; k < 60; k++) {
      term *= t ** 2 / (2 * k + 1);
      sum += term;
    }
    tail = 0.5 - density * sum;
  } else {
    let fraction = t;
    for (let k = 300; k > 0; k--) fraction = t + k / fraction;
    tail = density / fraction;
  }
  return b * (b < 0 ? tail : 1 - tail);
}

describe('functions', () => {
  const x = tensor([-3, -1, 0, 0.5, 2], [5]);

  it('gelu, its approximation and CLIP’s', () => {
    expectAllclose(gelu(x), tensor([-0.00404951, -0.15865529, 0, 0.34573123, 1.9544997], [5]), 1e-6);
    expectAllclose(gelu(x, 'tanh'), tensor([-0.00363739, -0.15880796, 0, 0.34571401, 1.95459771], [5]), 1e-6);
    const sigmoid = (y: number) => 1 / (1 + Math.exp(-1.702 * y));
    expectAllclose(
      quickGelu(x),
      tensor(
        x.toNumbers().map((y) => y * sigmoid(y)),
        [5],
      ),
      1e-6,
    );
  });

  it('mseLoss is the mean of squared differences', () => {
    expect(mseLoss(tensor([1, 2, 3], [3]), tensor([1, 4, 0], [3])).item()).toBeCloseTo(13 / 3);
  });

  it('mseLossPerRow is the mean of each row', () => {
    const [a, b] = [tensor([1, 2, 3, 4], [2, 1, 1, 2]), tensor([1, 4, 0, 0], [2, 1, 1, 2])];
    expect(mseLossPerRow(a, b).toNumbers()).toEqual([2, 12.5]);
  });

  it('interpolateNearest repeats pixels, by a factor or to a size', () => {
    const image = tensor([1, 2, 3, 4], [1, 1, 2, 2]);
    expect(interpolateNearest(image, 2).toNumbers()).toEqual([
      1, 1, 2, 2, 1, 1, 2, 2, 3, 3, 4, 4, 3, 3, 4, 4,
    ]);
    expect(interpolateNearest(image, [3, 2]).toNumbers()).toEqual([1, 2, 1, 2, 3, 4]);
  });

  it('pad adds zeros left, right, above, below', () => {
    expect(pad(full([1, 1, 1, 1], 5), [1, 0, 0, 2]).toNumbers()).toEqual([0, 5, 0, 0, 0, 0]);
  });

  const ofHalf = { dtype: 'bfloat16' } as const;
  it.each([
    ['groupNorm', [2, 64, 8, 8], (x: Tensor, w: Tensor, b: Tensor) => groupNorm(x, 32, w, b, 1e-5)],
    ['layerNorm', [16, 640], (x: Tensor, w: Tensor, b: Tensor) => layerNorm(x, w, b, 1e-5)],
  ] as const)('%s rounds to bfloat16 only what it returns', (_, shape, norm) => {
    const channels = shape[1];
    const values = [random(...shape).add(10), random(channels), random(channels)].map((one) =>
      one.to(ofHalf),
    );
    const output = random(...shape).to(ofHalf);
    const [half, single] = (['bfloat16', 'float32'] as const).map((dtype) => {
      const [x, weight, bias] = values.map((value) => value.to({ dtype }).detach()) as [
        Tensor,
        Tensor,
        Tensor,
      ];
      x.requiresGrad = true;
      const result = norm(x, weight, bias);
      backward(result.mul(output.to({ dtype })).sum());
      return [result, x.grad as Tensor];
    }) as [Tensor[], Tensor[]];
    for (const [i, one] of half.entries()) {
      expect(one.dtype).toBe('bfloat16');
      expectAllclose(one, single[i] as Tensor, 2 ** -8);
    }
  });
});
