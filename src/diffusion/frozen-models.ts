/** @file The frozen models of a training run, from the user's folders, and what they make of a batch. */

import type { Examples, Input } from '../data/data-loader.js';
import { resolveModelPath } from '../hub/cache.js';
import { ClipImageProcessor } from '../models/clip/clip-image-processor.js';
import type { ClipTokenizer } from '../models/clip/clip-tokenizer.js';
import type { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { sampleLatents } from '../models/vae/autoencoder-kl.js';
import type { Part } from '../options/train-options.js';
import { DDPMScheduler } from '../schedulers/ddpm.js';
import {
  cat,
  type Device,
  type DType,
  type Generator,
  graphed,
  noGrad,
  stack,
  type Tensor,
  tensor,
  tidy,
} from '../torch/index.js';
import { type LoadOptions, loadImageEncoder, readImageEncoderConfig } from '../weights/load.js';
import { openStableDiffusion } from './stable-diffusion.js';

/**
 * The encodings of a batch's rows, on the device:
 *
 *     latents   the VAE's distribution, mean and std [b, 2, 4, height / 8, width / 8], not scaled
 *     text      the text encoder's last hidden state [b, 77, crossAttentionDim]
 *     image     the image encoder's last hidden state but one [b, n, hiddenSize]
 */
export type Encode = (examples: Examples) => Tensor;

interface FrozenOptions extends LoadOptions {
  dtype: DType;
  device: Device;
  /** Rows that an encoder takes at once, 1 or more: its memory grows with them. */
  rowsAtOnce: number;
  /** Whether encoders are recorded as CUDA graphs. Default: false. */
  cudaGraphs?: boolean;
}

/** An encoder, not loaded yet. */
export interface EncoderSource {
  /** The folder or file that it is in. */
  path: string;
  /** What it takes of a batch. */
  input: Input;
  /** Can be called once. */
  load(): FrozenEncoder;
}

export interface FrozenEncoder {
  encode: Encode;
  /** Its weights. */
  parameters(): Tensor[];
  /** Lets go of the weights. */
  dispose(): void;
}

export interface FrozenModels {
  unet: UNet2DConditionModel;
  /** The folder or file that it is in. */
  unetPath: string;
  scheduler: DDPMScheduler;
  tokenizer: ClipTokenizer;
  imageProcessor: ClipImageProcessor;
  /** Channels of the image encoder's hidden states. */
  imageFeatureSize: number;
  /** What latents are multiplied by before the UNet. */
  latentScale: number;
  encoders: Record<Part, EncoderSource>;
}

/**
 * Loads what every step needs of a Stable Diffusion and a CLIP image encoder; encoders are left to be loaded by those
 * who need them. Cheap faults come first: the small files are read before the weights.
 * @param modelNameOrPath see `openStableDiffusion`
 * @param imageEncoderNameOrPath a folder in the layout of transformers, or a name in the Hub's cache
 */
export function loadFrozenModels(
  modelNameOrPath: string,
  imageEncoderNameOrPath: string,
  options: FrozenOptions,
): FrozenModels {
  const model = openStableDiffusion(modelNameOrPath);
  const imageEncoderFolder = resolveModelPath(imageEncoderNameOrPath);
  const scheduler = new DDPMScheduler(model.noiseConfig(), options.device);
  const tokenizer = model.tokenizer();
  const { imageSize, hiddenSize } = readImageEncoderConfig(imageEncoderFolder);
  return {
    scheduler,
    tokenizer,
    imageProcessor: ClipImageProcessor.load(imageEncoderFolder, imageSize),
    imageFeatureSize: hiddenSize,
    latentScale: model.vaeConfig().scalingFactor,
    unet: model.loadUNet(options),
    unetPath: model.pathOf('unet'),
    encoders: {
      latents: encoder(
        model.pathOf('vae'),
        () => model.loadVAE(options),
        'pixelValues',
        (vae, pixels) => {
          const { mean, std } = vae.encode(pixels);
          return stack([mean, std], 1);
        },
        options,
      ),
      text: encoder(
        model.pathOf('text_encoder'),
        () => model.loadTextEncoder(options),
        'inputIds',
        (textEncoder, ids) => textEncoder.call(ids).lastHiddenState,
        options,
      ),
      image: encoder(
        imageEncoderFolder,
        () => loadImageEncoder(imageEncoderFolder, options),
        'clipPixelValues',
        (imageEncoder, pixels) => imageEncoder.hiddenStates(pixels, -2),
        options,
      ),
    },
  };
}

/** @param encode is given what batches hold under the name `input`, on the device, a few rows at a time */
function encoder<M extends { parameters(): Tensor[] }>(
  path: string,
  loadModel: () => M,
  input: Input,
  encode: (model: M, input: Tensor) => Tensor,
  { device, rowsAtOnce, cudaGraphs = false }: FrozenOptions,
): EncoderSource {
  const load = (): FrozenEncoder => {
    const model = loadModel();
    const run = (rows: Tensor): [Tensor] => [tidy(() => encode(model, rows))];
    const encodeRows = cudaGraphs ? graphed(run) : run;
    return {
      encode: (examples) => {
        const values = examples[input];
        if (values === null) throw new Error(`the loader was not asked for ${input}`);
        using _ = noGrad();
        return tidy(() => {
          const [first, ...others] = tensor(values.data, values.shape)
            .upload(device)
            .split(rowsAtOnce)
            .map((rows) => encodeRows(rows)[0]) as [Tensor, ...Tensor[]];
          // cat would change the strides, and with them the last bits of what follows.
          return others.length === 0 ? first : cat([first, ...others]);
        });
      },
      parameters: () => model.parameters(),
      dispose: () => {
        for (const parameter of model.parameters()) parameter.dispose();
      },
    };
  };
  return { path, input, load };
}

/** A batch as the adapter and the UNet take it. */
export interface EncodedBatch {
  /** Sampled from the VAE's distribution and scaled, float32 [b, 4, height / 8, width / 8]. */
  latents: Tensor;
  /** The text encoder's last hidden state [b, 77, crossAttentionDim]. */
  textStates: Tensor;
  /** The image encoder's last hidden state but one, float32 [b, n, hiddenSize]. */
  imageFeatures: Tensor;
}

/** @param generator draws the VAE's sample */
export function encodeBatch(
  encode: Record<Part, Encode>,
  { latentScale }: Pick<FrozenModels, 'latentScale'>,
  batch: Examples,
  generator: Generator,
): EncodedBatch {
  using _ = noGrad();
  return tidy(() => {
    const distribution = encode.latents(batch);
    const [mean, std] = [distribution.select(1, 0), distribution.select(1, 1)];
    return {
      latents: sampleLatents({ mean, std }, generator).to('float32').mul(latentScale),
      textStates: encode.text(batch),
      imageFeatures: encode.image(batch).to('float32'),
    };
  });
}
