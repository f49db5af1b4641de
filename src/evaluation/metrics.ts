/** @file The encoders that measure images: CLIP for images and texts, DINO for images, and the pixels themselves. */
import { realpathSync } from 'node:fs';
import { type ImageEncoder, openImageEncoder } from '../adapters/image-encoder.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { DatasetRow } from '../data/dataset.js';
import { downloadModels } from '../diffusion/download-models.js';
import type { PartOptions } from '../diffusion/model.js';
import { releaseTensors } from '../generation/conditions.js';
import { readImage } from '../images/image.js';
import { trainCrop } from '../images/train-transform.js';
import type { MetricOptions } from '../options/metric-options.js';
import { cat, type Tensor, tensor, tidy, zipTensors } from '../torch/index.js';
import { ClipMetric, embedUnitRows } from './clip-metric.js';

/** Embeddings of images, [n, d] each, every row of length 1: their products are cosines. */
export interface ImageEmbeddings {
  clip: Tensor;
  /** Of an image of 32 × 32 pixels, less its mean: products are correlations. */
  pixels: Tensor;
  dino?: Tensor;
}

/** The embeddings that the images of n rows are compared with. */
export interface Wanted {
  references: ImageEmbeddings;
  /** Of captions, [n, d]; null without a text encoder. */
  captions: Tensor | null;
}

/** Side of the images whose pixels are compared: small enough that a copy with other details is still one. */
const PIXEL_SIDE = 32;

export class Metrics implements Disposable {
  readonly #clip: ClipMetric;
  readonly #dino: ImageEncoder | undefined;

  private constructor(clip: ClipMetric, dino: ImageEncoder | undefined) {
    this.#clip = clip;
    this.#dino = dino;
  }

  /**
   * @param option that named the metric encoder, for errors
   * @throws ConfigError, CheckpointError where a folder is another model, or encoders do not go together
   */
  static load(
    { metricEncoder, metricTextEncoder, dinoEncoder }: MetricSources,
    target: PartOptions,
    option?: string,
  ): Metrics {
    const dino =
      dinoEncoder === undefined
        ? undefined
        : openImageEncoder(dinoEncoder, '--dino-encoder (dinoEncoder)').load(target);
    return new Metrics(ClipMetric.load(metricEncoder, metricTextEncoder, target, option), dino);
  }

  /** Whether texts can be embedded. */
  get readsText(): boolean {
    return this.#clip.readsText;
  }

  /** Returns the embeddings of images, one after another. */
  embedImages(images: readonly RgbImage[]): ImageEmbeddings {
    return tidy(() => ({
      clip: this.#clip.embedImages(images),
      pixels: embedPixels(images),
      ...(this.#dino && { dino: embedUnitRows(this.#dino, images) }),
    }));
  }

  /** Returns the embeddings of texts, [n, d]; null without a text encoder. */
  embedTexts(texts: readonly string[]): Tensor | null {
    return this.#clip.readsText ? this.#clip.embedTexts(texts) : null;
  }

  [Symbol.dispose](): void {
    this.#clip[Symbol.dispose]();
    this.#dino?.[Symbol.dispose]();
  }
}

export type MetricSources = MetricOptions & { metricEncoder: string };

/**
 * Returns the folders of the encoders, which are downloaded where they are names on the Hub.
 * @param option that named the metric encoder, for errors
 */
export async function downloadMetrics(
  { metricEncoder, metricTextEncoder, dinoEncoder }: MetricSources,
  context: Parameters<typeof downloadModels>[1],
  option?: string,
): Promise<MetricSources> {
  const clip = await downloadModels(
    { imageEncoder: metricEncoder, textEncoder: metricTextEncoder },
    context,
    option === undefined ? {} : { imageEncoder: option },
  );
  const dino = await downloadModels({ imageEncoder: dinoEncoder }, context, {
    imageEncoder: '--dino-encoder (dinoEncoder)',
  });
  return {
    metricEncoder: clip.get('imageEncoder') as string,
    metricTextEncoder: clip.get('textEncoder'),
    dinoEncoder: dino.get('imageEncoder'),
  };
}

/** Returns a warning where the encoder that measures is the one that the adapter reads. */
export function sameEncoderWarnings(
  imageEncoder: string | undefined,
  { metricEncoder, dinoEncoder }: MetricSources,
): string[] {
  const same = (other: string | undefined): boolean =>
    imageEncoder !== undefined && other !== undefined && placeOf(imageEncoder) === placeOf(other);
  const warn = (measure: string, flag: string): string =>
    `${measure} is measured with the image encoder that the adapter reads, ${imageEncoder}, and so favours it; give another one with ${flag} to compare adapters`;
  return [
    ...(same(metricEncoder) ? [warn('CLIP-I', '--metric-encoder (metricEncoder)')] : []),
    ...(same(dinoEncoder) ? [warn('DINO', '--dino-encoder (dinoEncoder)')] : []),
  ];
}

function placeOf(nameOrPath: string): string {
  try {
    return realpathSync(nameOrPath);
  } catch {
    // A name on the Hub.
    return nameOrPath;
  }
}

/**
 * Returns the embeddings of rows' reference images and first captions; one image is in memory at a time.
 * @param read reads the reference image of a row
 */
export async function embedRows(
  rows: Iterable<DatasetRow>,
  metrics: Metrics,
  signal: AbortSignal,
  read = (row: DatasetRow): Promise<RgbImage> => readImage(row.promptImage),
): Promise<Wanted> {
  const embeddings: ImageEmbeddings[] = [];
  using _ = { [Symbol.dispose]: () => releaseTensors(embeddings) };
  const texts: string[] = [];
  for (const row of rows) {
    embeddings.push(metrics.embedImages([await read(row)]));
    texts.push(row.captions[0] ?? '');
    signal.throwIfAborted();
  }
  return { references: joined(embeddings), captions: metrics.embedTexts(texts) };
}

/** Returns embeddings one below the other. */
export function joined(parts: readonly ImageEmbeddings[]): ImageEmbeddings {
  return tidy(() => zipTensors(parts as [ImageEmbeddings, ...ImageEmbeddings[]], (rows) => cat(rows)));
}

function embedPixels(images: readonly RgbImage[]): Tensor {
  const size = { width: PIXEL_SIDE, height: PIXEL_SIDE };
  const rows = images.map((image) => {
    const { data } = trainCrop(image, size);
    const mean = data.reduce((sum, value) => sum + value, 0) / data.length;
    const centred = Float32Array.from(data, (value) => value - mean);
    // An image of one colour correlates with nothing.
    const length = Math.hypot(...centred) || 1;
    return tensor(
      centred.map((value) => value / length),
      [1, data.length],
    );
  });
  return cat(rows);
}
