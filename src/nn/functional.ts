/** @file Stateless functions of tensors, named as in torch.nn.functional. */
import { hasCpuFlags } from '../base/cpu-flags.js';
import { full, op, type Tensor, tidy, torchVersion } from '../torch/index.js';
import { prefersOurAttention } from './attention-kernel.js';
import { type ConvolutionTile, tileOfConvolution } from './convolution-kernel.js';

const aten = {
  linear: op('aten::linear(Tensor input, Tensor weight, Tensor? bias=None) -> Tensor'),
  conv2d: op(
    'aten::conv2d(Tensor input, Tensor weight, Tensor? bias=None, int[2] stride=1, int[2] padding=0, int[2] dilation=1, int groups=1) -> Tensor',
  ),
  conv3x3: op('ip_adapter::conv3x3(Tensor x, Tensor weight, Tensor? bias, int tile) -> Tensor'),
  groupNorm: op(
    'aten::group_norm(Tensor input, int num_groups, Tensor? weight=None, Tensor? bias=None, float eps=1e-05, bool cudnn_enabled=True) -> Tensor',
  ),
  layerNorm: op(
    'aten::layer_norm(Tensor input, int[] normalized_shape, Tensor? weight=None, Tensor? bias=None, float eps=1e-05, bool cudnn_enable=True) -> Tensor',
  ),
  embedding: op(
    'aten::embedding(Tensor weight, Tensor indices, SymInt padding_idx=-1, bool scale_grad_by_freq=False, bool sparse=False) -> Tensor',
  ),
  silu: op('aten::silu(Tensor self) -> Tensor'),
  silu_: op('aten::silu_(Tensor(a!) self) -> Tensor(a!)'),
  gelu: op("aten::gelu(Tensor self, *, str approximate='none') -> Tensor"),
  geglu: op('ip_adapter::geglu(Tensor x) -> Tensor'),
  mseLoss: op('aten::mse_loss(Tensor self, Tensor target, int reduction=Mean) -> Tensor'),
  upsampleNearest2d: op(
    'aten::upsample_nearest2d(Tensor self, SymInt[2] output_size, float? scales_h=None, float? scales_w=None) -> Tensor',
  ),
  upsampleBilinear2d: op(
    'aten::upsample_bilinear2d(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor',
  ),
  upsampleBicubic2d: op(
    'aten::upsample_bicubic2d(Tensor self, SymInt[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None) -> Tensor',
  ),
  adaptiveAvgPool2d: op('aten::adaptive_avg_pool2d(Tensor self, SymInt[2] output_size) -> Tensor'),
  constantPadNd: op('aten::constant_pad_nd(Tensor self, SymInt[] pad, Scalar value=0) -> Tensor'),
  triu: op('aten::triu(Tensor self, int diagonal=0) -> Tensor'),
  attention: op('ip_adapter::attention(Tensor q, Tensor k, Tensor v, float scale) -> Tensor'),
  scaledDotProductAttention: op(
    'aten::scaled_dot_product_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_mask=None, float dropout_p=0.0, bool is_causal=False) -> Tensor',
  ),
};

/** x [..., in], weight [out, in], bias [out] → [..., out] */
export function linear(x: Tensor, weight: Tensor, bias: Tensor | null): Tensor {
  return exactly(roundsProducts, [x, weight, bias], (x, weight, bias) => aten.linear(x, weight, bias));
}

/**
 * Convolves x [batch, in, h, w] with weight [out, in, kh, kw] → [batch, out, h', w']. On the CPU and where the weight is not trained, a
 * 3 × 3 convolution may be ours (native/kernels/convolution.cc), by a table (convolution-kernel.ts).
 */
export function conv2d(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  stride: number,
  padding: number,
): Tensor {
  const tile = ourTile(x, weight, bias, stride, padding);
  if (tile !== null) return aten.conv3x3(x, weight, bias, tile);
  return exactly(roundsProducts, [x, weight, bias], (x, weight, bias) =>
    aten.conv2d(x, weight, bias, [stride, stride], [padding, padding]),
  );
}

function ourTile(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | null,
  stride: number,
  padding: number,
): ConvolutionTile | null {
  const { dtype } = x;
  const [outChannels = 0, inChannels = 0, ...kernel] = weight.shape;
  const [, channels, height = 0, width = 0] = x.shape;
  const isOurs =
    aten.conv3x3.available &&
    // Of other tensors LibTorch's operator says what is wrong.
    [x, weight, ...(bias ? [bias] : [])].every((one) => one.device === 'cpu' && one.dtype === dtype) &&
    x.ndim === 4 &&
    channels === inChannels &&
    !weight.requiresGrad &&
    !bias?.requiresGrad;
  if (!isOurs) return null;
  return tileOfConvolution({ inChannels, outChannels, height, width, kernel, stride, padding, dtype });
}

/** Normalises x [batch, channels, ...] over each group of channels and all later dimensions. */
export function groupNorm(x: Tensor, groups: number, weight: Tensor, bias: Tensor, eps: number): Tensor {
  return exactly(rounds, [x, weight, bias], (x, weight, bias) =>
    aten.groupNorm(x, groups, weight, bias, eps),
  );
}

/** Normalises x [..., dim] over its last dimension. */
export function layerNorm(x: Tensor, weight: Tensor, bias: Tensor, eps: number): Tensor {
  return exactly(rounds, [x, weight, bias], (x, weight, bias) =>
    aten.layerNorm(x, weight.shape, weight, bias, eps),
  );
}

type Operands<Bias> = [x: Tensor, weight: Tensor, bias: Bias];

/** Whether the engine rounds parts of sums to bfloat16 on the CPU: its norms are wrong by 3 % where the mean is ten deviations. */
const rounds = (): boolean => torchVersion().startsWith('1.');

/**
 * Whether it does so in products, of which a small VAE's decoder is wrong by 6 %: where oneDNN does not compute them
 * (pytorch/pytorch v1.13 aten/src/ATen/native/mkldnn/Utils.h, mkldnn_bf16_device_check).
 */
const roundsProducts = (): boolean => rounds() && !hasCpuFlags(['avx512bw', 'avx512vl', 'avx512dq']);

/** Computes bfloat16 on the CPU in float32 where the engine would round more than the result. */
function exactly<Bias extends Tensor | null>(
  isRounded: () => boolean,
  args: Operands<Bias>,
  compute: (...args: Operands<Bias>) => Tensor,
): Tensor {
  const [{ dtype, device }] = args;
  if (dtype !== 'bfloat16' || device !== 'cpu' || !isRounded()) return compute(...args);
  return tidy(() => {
    const exact = args.map((one) => one?.to({ dtype: 'float32' }) ?? null) as Operands<Bias>;
    return compute(...exact).to({ dtype });
  });
}

/** Looks up rows of weight [count, dim]: integers [...] → [..., dim] */
export function embedding(ids: Tensor, weight: Tensor): Tensor {
  return aten.embedding(weight, ids);
}

/** x σ(x); `inplace` overwrites x, which must not require a gradient. */
export function silu(x: Tensor, { inplace = false } = {}): Tensor {
  return inplace ? aten.silu_(x) : aten.silu(x);
}

/** x Φ(x), exact with the error function or approximated with tanh (Hendrycks & Gimpel, arXiv 1606.08415) */
export function gelu(x: Tensor, approximate: 'none' | 'tanh' = 'none'): Tensor {
  return aten.gelu(x, approximate);
}

/** Whether the addon has a fused GEGLU operator, which it has where its loops use all threads. */
export const isGegluFused = (): boolean => aten.geglu.available;

/**
 * a · gelu(b), where x = [a, b] (Shazeer, arXiv 2002.05202). The fused operator, for float32 on the CPU, takes one pass each
 * for forward and backward.
 * @param x [..., 2 dim]
 * @returns [..., dim]
 */
export function geglu(x: Tensor): Tensor {
  if (isGegluFused() && x.device === 'cpu' && x.dtype === 'float32') return aten.geglu(x);
  return tidy(() => {
    const [value, gate] = x.chunk(2, -1) as [Tensor, Tensor];
    return value.mul(gelu(gate));
  });
}

/** x σ(1.702 x), OpenAI CLIP's approximation of GELU (openai/CLIP `clip/model.py`) */
export function quickGelu(x: Tensor): Tensor {
  return x.mul(x.mul(1.702).sigmoid());
}

/** Returns x [batch, channels, h, w] in another size by area: each value is the mean of those that it covers. */
export function adaptiveAvgPool2d(x: Tensor, size: [height: number, width: number]): Tensor {
  return aten.adaptiveAvgPool2d(x, size);
}

/** Returns the mean of the squared differences, a scalar. */
export function mseLoss(prediction: Tensor, target: Tensor): Tensor {
  return aten.mseLoss(prediction, target);
}

/** Returns the mean of each row's squared differences, [batch]. */
export function mseLossPerRow(prediction: Tensor, target: Tensor): Tensor {
  const reduction = 0; // none
  return tidy(() => aten.mseLoss(prediction, target, reduction).flatten(1).mean([1]));
}

/** Resizes [batch, channels, h, w] by repeating pixels, to [height, width] or by an integer factor. */
export function interpolateNearest(
  x: Tensor,
  target: number | readonly [height: number, width: number],
): Tensor {
  if (typeof target !== 'number') return aten.upsampleNearest2d(x, target);
  const [, , height = 0, width = 0] = x.shape;
  return aten.upsampleNearest2d(x, [height * target, width * target], target, target);
}

/**
 * Resizes [batch, channels, h, w] as `torch.nn.functional.interpolate` does: corners not aligned, no antialiasing, so that
 * bicubic values may overshoot.
 */
export function interpolate(
  x: Tensor,
  size: readonly [height: number, width: number],
  mode: 'bilinear' | 'bicubic',
): Tensor {
  return mode === 'bicubic'
    ? aten.upsampleBicubic2d(x, size, false)
    : aten.upsampleBilinear2d(x, size, false);
}

/** Pads the last two dimensions with zeros. */
export function pad(
  x: Tensor,
  [left, right, top, bottom]: readonly [number, number, number, number],
): Tensor {
  return aten.constantPadNd(x, [left, right, top, bottom]);
}

export interface AttentionOptions {
  /** Whether position i attends only to positions 0 … i. */
  isCausal?: boolean;
  /** The factor of the scores; default headDim^-½. */
  scale?: number;
  /** Computes in float32 whatever the dtype; fused attention always does. */
  upcast?: boolean;
}

/**
 * softmax(q kᵀ scale) v (Vaswani et al. 2017, equation 1). A fused operator avoids storing the probabilities
 * [batch, heads, n, m], in backward too: on the CPU and unless causal, ours (native/kernels/attention.cc), which computes in
 * float32 whatever the dtype, before LibTorch 2.0 and where a table prefers it (attention-kernel.ts); else LibTorch's.
 * @param q [batch, heads, n, headDim]
 * @param k [batch, heads, m, headDim]
 * @param v [batch, heads, m, valueDim]
 * @returns [batch, heads, n, valueDim]
 */
export function attention(q: Tensor, k: Tensor, v: Tensor, options: AttentionOptions = {}): Tensor {
  const headDim = q.shape.at(-1) ?? 1;
  const { isCausal = false, upcast = false, scale = headDim ** -0.5 } = options;
  // The fused loops divide by the numbers of heads and queries.
  const isEmpty = q.numel === 0 || k.numel === 0;
  const isOursPossible = q.device === 'cpu' && !isCausal && !isEmpty;
  if (aten.scaledDotProductAttention.available) {
    const [n = 0, m = 0] = [q.shape.at(-2), k.shape.at(-2)];
    if (isOursPossible && prefersOurAttention({ n, m, width: headDim, dtype: q.dtype }, torchVersion()))
      return aten.attention(q, k, v, scale);
    const query = options.scale === undefined ? q : q.mul(scale * Math.sqrt(headDim));
    return aten.scaledDotProductAttention(query, k, v, null, 0, isCausal);
  }
  if (isOursPossible) return aten.attention(q, k, v, scale);
  return tidy(() => {
    const { dtype } = q;
    const [query, key, value] = upcast ? [q.to('float32'), k.to('float32'), v.to('float32')] : [q, k, v];
    // Scaling the queries takes headDim products a row, scaling the scores m.
    const scores = query.mul(scale).matmul(key.transpose(-2, -1));
    // In place is safe for autograd, since the backward of a matrix product does not need its result.
    if (isCausal) scores.add_(futureMask(scores));
    return scores.softmax(-1).matmul(value).to(dtype);
  });
}

/**
 * Attends with several heads: q [batch, n, dim], k [batch, m, dim], v [batch, m, dim] → [batch, n, dim]. The dimensions are
 * split among the heads, one after another.
 */
export function multiHeadAttention(
  q: Tensor,
  k: Tensor,
  v: Tensor,
  heads: number,
  options: AttentionOptions = {},
): Tensor {
  const split = (x: Tensor): Tensor => {
    const [batch = 0, n = 0, dim = 0] = x.shape;
    return x.view(batch, n, heads, dim / heads).transpose(1, 2);
  };
  return attention(split(q), split(k), split(v), options).transpose(1, 2).flatten(2);
}

/** Returns the causal mask [n, m]: 0 where position n may attend, -∞ at later positions. */
function futureMask({ shape, dtype, device }: Tensor): Tensor {
  return aten.triu(full(shape.slice(-2), Number.NEGATIVE_INFINITY, { dtype, device }), 1);
}
