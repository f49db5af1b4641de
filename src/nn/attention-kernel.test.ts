import { afterEach, describe, expect, it } from 'vitest';
import { backward, op, randn, type Tensor, torchVersion } from '../torch/index.js';
import { newestAttentionTable, prefersOurAttention, setAttentionTable } from './attention-kernel.js';
import { attention } from './functional.js';

afterEach(() => setAttentionTable(newestAttentionTable));

const shape = (n: number, m: number, width: number) => ({ n, m, width, dtype: 'float32' as const });

describe('the table', () => {
  it('prefers ours for long self-attention and for text, where LibTorch was measured', () => {
    for (const chosen of [
      shape(4096, 4096, 40),
      shape(1024, 1024, 80),
      shape(4096, 77, 64),
      shape(256, 77, 160),
    ]) {
      expect(prefersOurAttention(chosen, '2.13.0')).toBe(true);
      expect(prefersOurAttention(chosen, '3.0.0')).toBe(true);
      expect(prefersOurAttention(chosen, '2.6.0')).toBe(true);
      expect(prefersOurAttention(chosen, '2.5.1')).toBe(false);
      expect(prefersOurAttention({ ...chosen, dtype: 'bfloat16' }, '2.13.0')).toBe(false);
    }
  });

  it('is an older one for checkpoints that were made with it', () => {
    setAttentionTable(2);
    expect(prefersOurAttention(shape(4096, 4096, 40), '2.13.0')).toBe(true);
    expect(prefersOurAttention(shape(4096, 4096, 40), '2.12.1')).toBe(false);
    setAttentionTable(1);
    expect(prefersOurAttention(shape(4096, 4096, 40), '2.13.0')).toBe(false);
  });

  it('leaves image tokens, small levels, CLIP, the resampler and the VAE to LibTorch', () => {
    for (const [n, m, width] of [
      [4096, 16, 40],
      [256, 256, 160],
      [64, 77, 160],
      [257, 257, 80],
      [16, 273, 64],
      [4096, 4096, 512],
    ] as const)
      expect(prefersOurAttention(shape(n, m, width), '2.13.0')).toBe(false);
  });
});

const [major = 0, minor = 0] = torchVersion().split('.').map(Number);

describe.runIf(major > 2 || (major === 2 && minor >= 6))('attention with a LibTorch of the table', () => {
  const ours = op('ip_adapter::attention(Tensor q, Tensor k, Tensor v, float scale) -> Tensor');
  const theirs = op(
    'aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False) -> Tensor',
  );
  /** The result and the gradients, as bytes. */
  const bits = (run: (q: Tensor, k: Tensor, v: Tensor) => Tensor, inputs: readonly Tensor[]): Buffer => {
    const [q, k, v] = inputs as [Tensor, Tensor, Tensor];
    for (const input of inputs) [input.requiresGrad, input.grad] = [true, null];
    const out = run(q, k, v);
    backward(out.square().sum());
    return Buffer.concat(
      [out, ...inputs.map(({ grad }) => grad as Tensor)].map((x) => Buffer.from(x.toBytes())),
    );
  };

  const floats = (bytes: Buffer): Float32Array => new Float32Array(Uint8Array.from(bytes).buffer);
  /** Relative to the largest number. */
  const largestDifference = (a: Buffer, b: Buffer): number => {
    const other = floats(b);
    const scale = other.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    return floats(a).reduce((most, x, i) => Math.max(most, Math.abs(x - (other[i] as number))), 0) / scale;
  };

  it.each([
    [256, 77, true],
    [1024, 1024, true],
    [256, 16, false],
  ])('of %i queries and %i keys is ours: %s; with the older table it is LibTorch’s', (n, m, isOurs) => {
    const inputs = [randn([1, 2, n, 40]), randn([1, 2, m, 40]), randn([1, 2, m, 40])];
    const a = bits((q, k, v) => ours(q, k, v, 40 ** -0.5), inputs);
    const b = bits((q, k, v) => theirs(q, k, v, null, 0, false), inputs);
    expect(a.equals(b)).toBe(false);
    expect(largestDifference(a, b)).toBeLessThan(2e-5);
    expect(bits(attention, inputs).equals(isOurs ? a : b)).toBe(true);
    setAttentionTable(1);
    expect(bits(attention, inputs).equals(b)).toBe(true);
  });
});
