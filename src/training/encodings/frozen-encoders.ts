/**
 * @file The frozen encoders of a training run, each of which can be loaded or replaced by a cache of what it made, and what
 * they make of a batch.
 */
import type { ImageEncoderSource } from '../../adapters/image-encoder.js';
import type { ImageFeature } from '../../adapters/kind.js';
import type { Examples, Input } from '../../data/data-loader.js';
import type { Conditioning } from '../../diffusion/conditioning.js';
import type { DiffusionModel, PartOptions } from '../../diffusion/model.js';
import { sampleLatents } from '../../models/vae/autoencoder-kl.js';
import type { Part } from '../../options/train-options.js';
import { cat, type Generator, graphed, noGrad, stack, type Tensor, tensor, tidy } from '../../torch/index.js';

/**
 * Returns the encodings of a batch's rows, on the device:
 *
 *     latents   the VAE's distribution, mean and std [b, 2, channels, height / 8, width / 8], not scaled
 *     text      the text encoder's states [b, tokens, contextDim]
 *     image     the image encoder's feature that the adapter reads: [b, n, width]
 */
export type Encode = (examples: Examples) => Tensor;

export interface FrozenOptions extends PartOptions {
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

export interface FrozenEncoder extends Disposable {
  encode: Encode;
  /** Its weights. */
  parameters(): Tensor[];
}

export type EncoderSources = Record<Part, EncoderSource>;

/** @param feature what the adapter reads of the image encoder */
export function frozenEncoders(
  model: DiffusionModel,
  imageEncoder: ImageEncoderSource,
  feature: ImageFeature,
  options: FrozenOptions,
): EncoderSources {
  return {
    latents: encoderSource(model.pathOf('vae'), 'pixelValues', options, () => {
      const vae = model.loadVAE(options);
      const encode = (pixels: Tensor): Tensor => {
        const { mean, std } = vae.encode(pixels);
        return stack([mean, std], 1);
      };
      return { encode, parameters: () => vae.parameters() };
    }),
    text: encoderSource(model.pathOf('text_encoder'), 'inputIds', options, () => {
      const encoder = model.loadTextEncoder(options);
      return { encode: (ids) => encoder.condition(ids).text, parameters: () => encoder.parameters() };
    }),
    image: encoderSource(imageEncoder.folder, 'clipPixelValues', options, () => {
      const encoder = imageEncoder.load(options);
      return {
        encode: (pixels) => encoder.encode(pixels, feature),
        parameters: () => encoder.parameters(),
      };
    }),
  };
}

interface LoadedEncoder {
  /** Of a few rows, on the device. */
  encode(input: Tensor): Tensor;
  parameters(): Tensor[];
}

/** @param input the name of what it is given of a batch */
function encoderSource(
  path: string,
  input: Input,
  { device, rowsAtOnce, cudaGraphs = false }: FrozenOptions,
  loadEncoder: () => LoadedEncoder,
): EncoderSource {
  const load = (): FrozenEncoder => {
    const { encode, parameters } = loadEncoder();
    const run = (rows: Tensor): Tensor => tidy(() => encode(rows));
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
            .map(encodeRows) as [Tensor, ...Tensor[]];
          // cat would change the strides, and with them the last bits of what follows.
          return others.length === 0 ? first : cat([first, ...others]);
        });
      },
      parameters,
      [Symbol.dispose]: () => {
        for (const parameter of parameters()) parameter.dispose();
      },
    };
  };
  return { path, input, load };
}

/** A batch as the adapter and the backbone take it; a record of tensors with a row for each image. */
export interface EncodedBatch {
  /** Sampled from the VAE's distribution and scaled, float32 [b, channels, height / 8, width / 8]. */
  latents: Tensor;
  conditioning: Conditioning;
  /** As the adapter's kind reads them, float32. */
  imageFeatures: Tensor;
}

/**
 * @param latentScale see `LatentSpace`
 * @param generator draws the VAE's sample
 */
export function encodeBatch(
  encode: Record<Part, Encode>,
  latentScale: number,
  batch: Examples,
  generator: Generator,
): EncodedBatch {
  using _ = noGrad();
  return tidy(() => {
    const distribution = encode.latents(batch);
    const [mean, std] = [distribution.select(1, 0), distribution.select(1, 1)];
    return {
      latents: sampleLatents({ mean, std }, generator).to('float32').mul(latentScale),
      conditioning: { text: encode.text(batch) },
      imageFeatures: encode.image(batch).to('float32'),
    };
  });
}
