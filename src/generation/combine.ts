/**
 * @file How several reference images of one adapter become one prompt. Modes on features are ComfyUI_IPAdapter_plus's
 * `combine_embeds` (IPAdapterPlus.py, `ipadapter_execute`); its factor on an image's features is that of its node IPAdapter
 * Encoder. Appending tokens, so that all share one softmax, is what diffusers does, too.
 */
import type { CombineMode } from '../options/reference-options.js';
import { cat, op, type Tensor, tensor, tidy } from '../torch/index.js';

/** Features of one reference; a file of embeddings may hold several rows. */
export interface Reference {
  /** [rows, …], float32 */
  features: Tensor;
  /** What a file of embeddings has for the negative side, [rows, …]; null: the null image. */
  negatives: Tensor | null;
  /** Above 0. */
  weight: number;
}

const norm = op('aten::norm.ScalarOpt_dim(Tensor self, Scalar? p, int[1] dim, bool keepdim=False) -> Tensor');

/**
 * Returns the features that are projected, [n, …]: every row for `concat` and `token-average`, otherwise one.
 * @param references one or more
 */
export function combineFeatures(mode: CombineMode, references: readonly Reference[]): Tensor {
  return tidy(() => {
    const isShare = mode === 'token-average';
    const rows = cat(
      references.map(({ features, weight }) => (isShare || weight === 1 ? features : features.mul(weight))),
    );
    const [count = 0] = rows.shape;
    if (count === 1 || isShare || mode === 'concat') return rows;
    switch (mode) {
      case 'add':
        return rows.sum([0], true);
      case 'subtract':
        return rows.slice(0, 0, 1).sub(rows.slice(0, 1).mean([0], true));
      case 'average':
        return rows.mean([0], true);
      case 'norm-average':
        // A feature that is 0 in all images stays 0.
        return rows.div(norm(rows, 2, [0], true).clamp(1e-30, 1e30)).mean([0], true);
    }
  });
}

/**
 * Returns one sequence of image tokens, [1, m, contextDim].
 * @param tokens of the combined features, [n, numTokens, contextDim]
 */
export function combineTokens(mode: CombineMode, tokens: Tensor, references: readonly Reference[]): Tensor {
  if (mode !== 'token-average') return tokens.reshape(1, -1, tokens.shape[2] as number);
  return weightedMean(
    tokens,
    references.flatMap(({ features, weight }) => Array<number>(features.shape[0] as number).fill(weight)),
  );
}

/**
 * Returns the weighted mean of tokens. The k-th token comes from the same learned weights for every image, so the mean lies
 * between the images; one that is given twice counts double, and the cost does not grow.
 * @param tokens [n, numTokens, contextDim]
 * @param weights one for each row, above 0
 * @returns [1, numTokens, contextDim]
 */
function weightedMean(tokens: Tensor, weights: readonly number[]): Tensor {
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  return tidy(() => {
    const shares = tensor(
      weights.map((weight) => weight / total),
      [weights.length, 1, 1],
    );
    return tokens.mul(shares.to(tokens.device)).sum([0], true);
  });
}
