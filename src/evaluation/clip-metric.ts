/**
 * @file CLIP as a measure: embeds images and texts as vectors of length 1, whose products are cosines. Takes a whole CLIP
 * as published (openai/clip-vit-large-patch14), or an image encoder alone, with or without a text encoder.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type ImageEncoder, openImageEncoder } from '../adapters/image-encoder.js';
import { CheckpointError, ConfigError } from '../base/errors.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { PartOptions } from '../diffusion/model.js';
import { clipPixels } from '../generation/image-prompt.js';
import type { CLIPTextModel } from '../models/clip/clip-text-model.js';
import { ClipTokenizer } from '../models/clip/clip-tokenizer.js';
import { cat, type Device, noGrad, type Tensor, tensor, tidy } from '../torch/index.js';
import { readImageEncoder } from '../weights/image-encoders.js';
import { type LoadOptions, loadTextEncoder, loadTextEncoderWithProjection } from '../weights/load.js';

interface TextSide {
  tokenizer: ClipTokenizer;
  model: CLIPTextModel;
  /** Token ids [n, 77] → embeddings [n, d], of any length */
  embed(inputIds: Tensor): Tensor;
}

export class ClipMetric implements Disposable {
  readonly #vision: ImageEncoder;
  readonly #text: TextSide | null;
  readonly #device: Device;

  private constructor(vision: ImageEncoder, text: TextSide | null, device: Device) {
    this.#vision = vision;
    this.#text = text;
    this.#device = device;
  }

  /**
   * @param nameOrPath a whole CLIP, or an image encoder alone
   * @param textFolder the text encoder that belongs to an image encoder, its tokenizer in the same folder or in
   * `../tokenizer`; default: the whole CLIP's own, or none
   * @param option that named the encoder, for errors
   * @throws ConfigError, CheckpointError where a folder is neither, or the two do not go together
   */
  static load(
    nameOrPath: string,
    textFolder: string | undefined,
    target: PartOptions,
    option?: string,
  ): ClipMetric {
    const source = openImageEncoder(nameOrPath, option);
    const { folder } = source;
    const isWhole = readImageEncoder(folder).type === 'clip';
    if (isWhole && textFolder !== undefined)
      throw new ConfigError(`Expected no metric text encoder beside ${folder}, which has its own`);
    const vision = source.load(target);
    const textSource = isWhole ? folder : textFolder;
    const text = textSource === undefined ? null : loadText(textSource, vision.widths.pooled, target);
    return new ClipMetric(vision, text, target.device);
  }

  /** Releases the models' memory. */
  [Symbol.dispose](): void {
    this.#vision[Symbol.dispose]();
    for (const parameter of this.#text?.model.parameters() ?? []) parameter.dispose();
  }

  /** Whether texts can be embedded. */
  get readsText(): boolean {
    return this.#text !== null;
  }

  /** Returns [n, d] float32 on the CPU, each row of length 1. */
  embedImages(images: readonly RgbImage[]): Tensor {
    return embedUnitRows(this.#vision, images);
  }

  /** Returns [n, d] float32 on the CPU, each row of length 1. */
  embedTexts(texts: readonly string[]): Tensor {
    if (this.#text === null) throw new Error('embedTexts needs a text encoder');
    using _ = noGrad();
    const { tokenizer, embed } = this.#text;
    const embedOne = (text: string): Tensor =>
      tidy(() => embed(tensor(tokenizer.encode(text), [1, tokenizer.maxLength], 'int64').to(this.#device)));
    return tidy(() => unitRows(cat(texts.map(embedOne))));
  }
}

/** Returns the embeddings of images, [n, d] float32 on the CPU, each row of length 1. */
export function embedUnitRows(encoder: ImageEncoder, images: readonly RgbImage[]): Tensor {
  using _ = noGrad();
  // One at a time, so that memory does not grow with their number.
  const embed = (image: RgbImage): Tensor =>
    tidy(() => encoder.encode(clipPixels(encoder.preprocess, [image], 'crop').to(encoder.device), 'pooled'));
  return tidy(() => unitRows(cat(images.map(embed))));
}

function unitRows(rows: Tensor): Tensor {
  const values = rows.to({ dtype: 'float32', device: 'cpu' });
  return values.div(values.square().sum([-1], true).sqrt());
}

function loadText(folder: string, projectionDim: number, target: LoadOptions): TextSide {
  const tokenizer = ClipTokenizer.load(tokenizerFolder(folder));
  const model = loadTextEncoderWithProjection(folder, target);
  if (model !== null) {
    assertWidth(folder, model.text_projection.weight.shape[0] as number, projectionDim);
    return { tokenizer, model, embed: (ids) => model.embed(ids) };
  }
  // A pair may have been trained without a projection of the text.
  const plain = loadTextEncoder(folder, target);
  assertWidth(folder, plain.config.hiddenSize, projectionDim);
  return { tokenizer, model: plain, embed: (ids) => plain.call(ids).poolerOutput };
}

function assertWidth(folder: string, width: number, projectionDim: number): void {
  if (width !== projectionDim)
    throw new CheckpointError(
      `The text embeddings of ${folder} are ${width} wide and the image embeddings ${projectionDim}; give the text encoder that was trained with the image encoder.`,
    );
}

/** Transformers keeps a tokenizer beside the weights, diffusers in a folder of its own. */
function tokenizerFolder(folder: string): string {
  const isHere = ['tokenizer.json', 'vocab.json'].some((name) => existsSync(join(folder, name)));
  return isHere ? folder : join(folder, '..', 'tokenizer');
}
