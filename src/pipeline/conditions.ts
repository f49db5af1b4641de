/** @file From prompts to what the denoising loop takes: text states, and one set of image tokens for each picture. */
import { ConfigError } from '../errors.js';
import type { Conditions } from '../generate.js';
import { assertFeaturesFit, type OpenedAdapter } from '../ip-adapter/open-adapter.js';
import { cat, noGrad, type Tensor, tensor, tidy } from '../torch/index.js';
import type { ImageFit, ResolvedJob } from './generate-config.js';
import {
  featuresOf,
  type LoadedSource,
  loadSource,
  projectFeatures,
  weightedMean,
  zeroFeatures,
} from './image-prompt.js';
import type { PipelineModels } from './pipeline-models.js';

/**
 * The conditions of a batch of pictures, to be given to `releaseConditions` after use.
 * @throws ConfigError where adapter or encoder are missing, or only some jobs have image prompts; PictureError,
 * CheckpointError where a file cannot be read, or holds features of another encoder
 */
export async function makeConditions(
  models: PipelineModels,
  jobs: readonly ResolvedJob[],
  negativePrompt: string,
  fit: ImageFit,
): Promise<Conditions> {
  // Several pictures of one prompt share its list, which is then encoded once.
  const lists = [...new Set(jobs.map(({ imagePrompts }) => imagePrompts))];
  const prompts = await Promise.all(
    lists.map((list) =>
      Promise.all(list.map(async ({ image, weight }) => ({ source: await loadSource(image), weight }))),
    ),
  );
  return tidy(() => {
    const text = encodeTexts(
      models,
      jobs.map(({ prompt }) => prompt),
    );
    const negativeText = encodeTexts(
      models,
      jobs.map(() => negativePrompt),
    );
    if (prompts.every((list) => list.length === 0)) return { text, negativeText };
    if (prompts.some((list) => list.length === 0))
      throw new ConfigError('Expected image prompts for every picture, or for none');
    const { adapter } = models;
    if (adapter === undefined)
      throw new ConfigError('Expected an adapter for image prompts: give --adapter (adapter)');

    const sets = prompts.map((list) => tokensOf(models, adapter, list, fit));
    const tokens = cat(jobs.map(({ imagePrompts }) => sets[lists.indexOf(imagePrompts)] as Tensor));
    const { takes, embeddingDim } = adapter.module.image_proj;
    const file = prompts
      .flat()
      .map(({ source }) => source)
      .find((source) => typeof source === 'string');
    const zero = zeroFeatures(takes, models.encoder, file, embeddingDim);
    const negative = projectFeatures(adapter.module, zero);
    return {
      text,
      negativeText,
      image: {
        adapter: adapter.module,
        tokens: tokens.to(text.dtype),
        negativeTokens: negative.to(text.dtype).expand(jobs.length, -1, -1).contiguous(),
      },
    };
  });
}

/** Lets go of what `makeConditions` made. */
export function releaseConditions({ text, negativeText, image }: Conditions): void {
  for (const one of [text, negativeText, image?.tokens, image?.negativeTokens]) one?.dispose();
}

/** The text encoder's last hidden state of each text, [n, 77, crossAttentionDim]; equal texts are encoded once. */
function encodeTexts({ textEncoder, tokenizer, device }: PipelineModels, texts: readonly string[]): Tensor {
  using _ = noGrad();
  return tidy(() => {
    const distinct = [...new Set(texts)];
    const ids = distinct.flatMap((text) => tokenizer.encode(text));
    const inputIds = tensor(ids, [distinct.length, tokenizer.maxLength], 'int64').to(device);
    const { lastHiddenState } = textEncoder.call(inputIds);
    const rows = tensor(
      texts.map((text) => distinct.indexOf(text)),
      [texts.length],
      'int64',
    );
    return lastHiddenState.indexSelect(0, rows.to(device));
  });
}

interface LoadedPrompt {
  source: LoadedSource;
  weight: number;
}

/** [1, numTokens, crossAttentionDim], of all pictures of one prompt */
function tokensOf(
  { encoder }: PipelineModels,
  adapter: OpenedAdapter,
  prompts: readonly LoadedPrompt[],
  fit: ImageFit,
): Tensor {
  // What counts not at all must not change a bit.
  const counting = prompts.filter(({ weight }) => weight > 0);
  if (counting.length === 0) throw new ConfigError('Expected a weight above 0 for at least one image prompt');
  const features = counting.map(({ source }) => {
    const found = featuresOf(source, encoder, adapter.module.image_proj.takes, fit);
    assertFeaturesFit(
      adapter,
      found.shape.at(-1) as number,
      typeof source === 'string' ? source : (encoder?.folder as string),
    );
    return found;
  });
  const weights = counting.flatMap(({ weight }, i) =>
    Array<number>(features[i]?.shape[0] as number).fill(weight),
  );
  return weightedMean(projectFeatures(adapter.module, cat(features)), weights);
}
