/**
 * @file CLIP as a measure: pictures and texts as vectors of length 1, so that products are cosines. Takes a whole CLIP
 * as published (openai/clip-vit-large-patch14), or an image encoder alone, with or without a text encoder.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { type ImageEncoder, openImageEncoder } from '../adapters/image-encoder.js';
import { CheckpointError, ConfigError } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';
import type { PartOptions } from '../diffusion/model.js';
import { readSafetensors } from '../formats/index.js';
import { clipPixels } from '../generation/image-prompt.js';
import type { RgbImage } from '../images/image.js';
import { type CLIPTextModel, parseCLIPTextConfig } from '../models/clip/clip-text-model.js';
import { CLIPTextModelWithProjection } from '../models/clip/clip-text-model-with-projection.js';
import { ClipTokenizer } from '../models/clip/clip-tokenizer.js';
import { cat, type Device, noGrad, type Tensor, tensor, tidy } from '../torch/index.js';
import { type LoadOptions, loadTextEncoder } from '../weights/load.js';

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
   * @param folder a whole CLIP, or an image encoder alone
   * @param textFolder the text encoder that belongs to an image encoder, its tokenizer in the same folder or in
   * `../tokenizer`; default: the whole CLIP's own, or none
   * @throws ConfigError, CheckpointError where a folder is neither, or the two do not go together
   */
  static load(folder: string, textFolder: string | undefined, target: PartOptions): ClipMetric {
    const file = join(folder, 'config.json');
    const json = readJson(file);
    const isWhole = json.model_type === 'clip';
    if (isWhole && textFolder !== undefined)
      throw new ConfigError(`Expected no metric text encoder beside ${folder}, which has its own`);
    const vision = openImageEncoder(folder).load(target);
    const projectionDim = vision.widths.pooled;
    const text = isWhole
      ? loadOwnText(folder, json, projectionDim, target)
      : textFolder === undefined
        ? null
        : loadText(textFolder, projectionDim, target);
    return new ClipMetric(vision, text, target.device);
  }

  /** Lets go of the models' memory. */
  [Symbol.dispose](): void {
    this.#vision[Symbol.dispose]();
    for (const parameter of this.#text?.model.parameters() ?? []) parameter.dispose();
  }

  /** Whether texts can be embedded. */
  get readsText(): boolean {
    return this.#text !== null;
  }

  /** [n, d] float32 on the CPU, each row of length 1 */
  embedImages(images: readonly RgbImage[]): Tensor {
    using _ = noGrad();
    const { preprocess } = this.#vision;
    // One after the other, so that memory does not grow with their number.
    const embed = (image: RgbImage): Tensor =>
      tidy(() => this.#vision.encode(clipPixels(preprocess, [image], 'crop').to(this.#device), 'pooled'));
    return tidy(() => unitRows(cat(images.map(embed))));
  }

  /** [n, d] float32 on the CPU, each row of length 1 */
  embedTexts(texts: readonly string[]): Tensor {
    if (this.#text === null) throw new Error('embedTexts needs a text encoder');
    using _ = noGrad();
    const { tokenizer, embed } = this.#text;
    const embedOne = (text: string): Tensor =>
      tidy(() => embed(tensor(tokenizer.encode(text), [1, tokenizer.maxLength], 'int64').to(this.#device)));
    return tidy(() => unitRows(cat(texts.map(embedOne))));
  }
}

function unitRows(rows: Tensor): Tensor {
  const values = rows.to({ dtype: 'float32', device: 'cpu' });
  return values.div(values.square().sum([-1], true).sqrt());
}

/** The text side of a whole CLIP. */
function loadOwnText(
  folder: string,
  json: Record<string, unknown>,
  projectionDim: number,
  target: LoadOptions,
): TextSide {
  const textConfig = parseCLIPTextConfig(json.text_config, `${join(folder, 'config.json')} (text_config)`);
  const model = new CLIPTextModelWithProjection(textConfig, projectionDim);
  const weightsFile = join(folder, 'model.safetensors');
  const own = [...readSafetensors(weightsFile).tensors].filter(
    ([key]) => /^(text_model|text_projection)\./.test(key) && !key.endsWith('.position_ids'),
  );
  model.loadStateDict(new Map(own), weightsFile);
  model.to(target);
  return { tokenizer: ClipTokenizer.load(folder), model, embed: (ids) => model.embed(ids) };
}

function loadText(folder: string, projectionDim: number, target: LoadOptions): TextSide {
  const tokenizer = ClipTokenizer.load(tokenizerFolder(folder));
  const weightsFile = join(folder, 'model.safetensors');
  const { tensors } = readSafetensors(weightsFile);
  const projection = tensors.get('text_projection.weight');
  if (projection === undefined) {
    // A pair may have been trained to be compared without a projection of the text.
    const model = loadTextEncoder(folder, target);
    assertWidth(folder, model.config.hiddenSize, projectionDim);
    return { tokenizer, model, embed: (ids) => model.call(ids).poolerOutput };
  }
  const file = join(folder, 'config.json');
  const model = new CLIPTextModelWithProjection(
    parseCLIPTextConfig(readJson(file), file),
    projection.shape[0] as number,
  );
  model.loadStateDict(new Map([...tensors].filter(([key]) => !key.endsWith('.position_ids'))), weightsFile);
  assertWidth(folder, projection.shape[0] as number, projectionDim);
  model.to(target);
  return { tokenizer, model, embed: (ids) => model.embed(ids) };
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

function readJson(file: string): Record<string, unknown> {
  try {
    return JSON.parse(readFileSync(regularFile(file), 'utf8')) as Record<string, unknown>;
  } catch (cause) {
    throw new CheckpointError(`Expected a CLIP model's config at ${file}: ${(cause as Error).message}`, {
      cause,
    });
  }
}
