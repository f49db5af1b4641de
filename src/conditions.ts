/** @file From prompts to what the denoising loop takes: text states, and one set of image tokens for each picture. */
import type { ResolvedJob } from './generate-config.js';
import type { Conditions } from './generate.js';
import {
  encodeZero,
  type ImageFit,
  isFeaturesFile,
  projectFeatures,
  readImageFeatures,
  sourceFeatures,
  weightedMean,
} from './image-prompt.js';
import { ConfigError } from './errors.js';
import { assertFeaturesFit } from './ip-adapter/open-adapter.js';
import type { PipelineModels } from './pipeline-models.js';
import { cat, noGrad, type Tensor, tensor, tidy } from './torch/index.js';

type ImagePrompts = ResolvedJob['imagePrompts'];

/** The image tokens of several pictures to draw; dispose it after the last. */
export class ImageTokens implements Disposable {
  readonly #sets = new Map<ImagePrompts, Tensor>();
  readonly #negative: Tensor | null;

  private constructor(sets: Map<ImagePrompts, Tensor>, negative: Tensor | null) {
    this.#sets = sets;
    this.#negative = negative;
  }

  /**
   * Encodes each list of image prompts once, however many jobs share it.
   * @throws ConfigError where adapter or encoder are missing, or only some jobs have image prompts; CheckpointError
   * where saved features are of another encoder
   */
  static async of(models: PipelineModels, jobs: readonly ResolvedJob[], fit: ImageFit): Promise<ImageTokens> {
    const lists = [...new Set(jobs.map(({ imagePrompts }) => imagePrompts))];
    if (lists.every((list) => list.length === 0)) return new ImageTokens(new Map(), null);
    const { adapter, encoder } = models;
    if (adapter === undefined)
      throw new ConfigError('Expected an adapter for image prompts: give --adapter (adapter)');
    if (lists.some((list) => list.length === 0))
      throw new ConfigError('Expected image prompts for every picture, or for none');

    const sets = new Map<ImagePrompts, Tensor>();
    for (const list of lists) {
      const features = await sourceFeatures(list.map(({ image }) => image), encoder, fit);
      sets.set(list, tidy(() => oneSet(models, list, features)));
      for (const one of features) one.dispose();
    }
    const saved = lists.flat().map(({ image }) => image).find(isFeaturesFile);
    const negative = tidy(() => {
      const zero = encoder === undefined ? readImageFeatures(saved as string).zeroFeatures : encodeZero(encoder);
      return projectFeatures(adapter, zero);
    });
    return new ImageTokens(sets, negative);
  }
}
