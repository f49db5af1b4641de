/** @file The frozen encoders of a training run, and the encoding of a batch by them or by their caches. */
import type { ImageEncoderSource } from '../../adapters/image-encoder.js';
import type { AdapterKind, ImageFeature } from '../../adapters/kind.js';
import type { Examples, Input } from '../../data/examples.js';
import type { Conditioning } from '../../diffusion/conditioning.js';
import type { DiffusionModel, LatentSpace, PartOptions, SizeConditioning } from '../../diffusion/model.js';
import { PixelValues } from '../../images/pixels.js';
import { sampleLatents } from '../../models/vae/autoencoder-kl.js';
import { latentMasks } from '../../models/vae/latent-mask.js';
import type { Part } from '../../options/train-options.js';
import {
  cat,
  graphed,
  noGrad,
  releasePages,
  stack,
  type Tensor,
  tensor,
  tidy,
  zipTensors,
} from '../../torch/index.js';

/**
 * The encodings of a batch's rows, on the device:
 *
 *     latents   the VAE's distribution, mean and std [b, 2, channels, height / 8, width / 8], not scaled
 *     text      the text encoders' states [b, tokens, contextDim]; SDXL: and the pooled embedding [b, width]
 *     image     the image encoder's feature that the adapter reads: [b, n, width]
 */
export interface Encoding {
  rows: Tensor;
  pooled?: Tensor;
}

export type Encode = (examples: Examples) => Encoding;

export interface FrozenOptions extends PartOptions {
  /** Rows that an encoder takes at a time, 1 or more; memory grows with them. */
  rowsAtOnce: number;
  /** See `TextEncoder.condition`. */
  clipSkip?: number;
  /** Whether encoders are recorded as CUDA graphs. Default: false. */
  cudaGraphs?: boolean;
}

/** An encoder that is not loaded yet. */
export interface EncoderSource {
  /** The folders or files of its weights. */
  paths: readonly string[];
  /** The input of a batch that it encodes. */
  input: Input;
  /** The output that is encoded, where it is not the default one. */
  output?: string;
  /** Loads the encoder. Call it once. */
  load(): FrozenEncoder;
}

export interface FrozenEncoder extends Disposable {
  encode: Encode;
  /** Its weights. */
  parameters(): Tensor[];
}

export type EncoderSources = Record<Part, EncoderSource>;

/** Returns the encoders of a model. @param feature the output of the image encoder that the adapter reads */
export function frozenEncoders(
  model: DiffusionModel,
  imageEncoder: ImageEncoderSource,
  feature: ImageFeature,
  options: FrozenOptions,
): EncoderSources {
  const { clipSkip = 0 } = options;
  return {
    latents: encoderSource([model.vaePath], 'pixelValues', options, () => {
      const vae = model.loadVAE(options);
      const encode = (pixels: Tensor): Encoding => {
        const { mean, std } = vae.encode(pixels);
        return { rows: stack([mean, std], 1) };
      };
      return { encode, parameters: () => vae.parameters() };
    }),
    text: withOutput(
      clipSkip === 0 ? undefined : `clip skip ${clipSkip}`,
      encoderSource(model.textEncoderPaths, 'inputIds', options, () => {
        const encoder = model.loadTextEncoder(options);
        const encode = (ids: Tensor): Encoding => {
          const { text, pooled } = encoder.condition(ids, clipSkip);
          return { rows: text, ...(pooled && { pooled }) };
        };
        return { encode, parameters: () => encoder.parameters() };
      }),
    ),
    image: withOutput(
      feature === 'pooled' ? feature : undefined,
      encoderSource([imageEncoder.folder], 'clipPixelValues', options, () => {
        const encoder = imageEncoder.load(options);
        return {
          encode: (pixels) => ({ rows: encoder.encode(pixels, feature) }),
          parameters: () => encoder.parameters(),
        };
      }),
    ),
  };
}

function withOutput(output: string | undefined, source: EncoderSource): EncoderSource {
  return output === undefined ? source : { ...source, output };
}

interface LoadedEncoder {
  /** Encodes at most `rowsAtOnce` rows, which are on the device. */
  encode(input: Tensor): Encoding;
  parameters(): Tensor[];
}

/** @param input the name of the input in a batch */
function encoderSource(
  paths: readonly string[],
  input: Input,
  { device, rowsAtOnce, cudaGraphs = false }: FrozenOptions,
  loadEncoder: () => LoadedEncoder,
): EncoderSource {
  const load = (): FrozenEncoder => {
    const { encode, parameters } = loadEncoder();
    const run = (rows: Tensor): Encoding => tidy(() => encode(rows));
    const encodeRows = cudaGraphs ? graphed(run) : run;
    return {
      encode: (examples) => {
        const values = examples[input];
        if (values === null) throw new Error(`the loader was not asked for ${input}`);
        using _ = noGrad();
        const encoded = tidy(() => {
          const rows = values instanceof PixelValues ? values.toTensor() : tensor(values.data, values.shape);
          const [first, ...others] = rows.upload(device).split(rowsAtOnce).map(encodeRows) as [
            Encoding,
            ...Encoding[],
          ];
          // A single part is not passed through cat, which would change the strides, and so the last bits of later results.
          return others.length === 0 ? first : zipTensors([first, ...others], cat);
        });
        // The encoders take turns, and the UNet needs none of them: their weights are not all in memory at the same time.
        releasePages({ parameters });
        return encoded;
      },
      parameters,
      [Symbol.dispose]: () => {
        for (const parameter of parameters()) parameter.dispose();
      },
    };
  };
  return { paths, input, load };
}

/** A batch as the adapter and the backbone take it: a record of tensors with one row for each image. */
export interface EncodedBatch {
  /** Sampled from the VAE's distribution and scaled, float32 [b, channels, height / 8, width / 8]. */
  latents: Tensor;
  conditioning: Conditioning;
  /** The features that the adapter's kind reads, float32 [b, n, width] or [b, width]; of several references [b, references, …]. */
  imageFeatures: Tensor;
  /** Where the loss of each row counts, 0 … 1: float32 [b, 1, height / 8, width / 8]. Default: everywhere. */
  lossMask?: Tensor;
}

/** The settings of the models that `encodeBatch` needs besides the encoders. */
export interface BatchModels {
  latents: LatentSpace;
  /** What replaces a dropped image, see `AdapterKind`. */
  nullImage: AdapterKind['nullImage'];
  /** Returns the size conditioning of a batch; null for a family without. */
  sizes: ((batch: Examples) => SizeConditioning) | null;
}

/**
 * Encodes a batch, samples its latents and scales them.
 * @param draw returns normal noise of the shape, dtype and device of a tensor, for the sample of the VAE's distribution
 */
export function encodeBatch(
  encode: Record<Part, Encode>,
  { latents: { scale }, nullImage, sizes }: BatchModels,
  batch: Examples,
  draw: (like: Tensor) => Tensor,
): EncodedBatch {
  using _ = noGrad();
  return tidy(() => {
    const distribution = encode.latents(batch).rows;
    const [mean, std] = [distribution.select(1, 0), distribution.select(1, 1)];
    const latents = sampleLatents({ mean, std }, draw(mean)).to('float32').mul(scale);
    const { rows: text, pooled } = encode.text(batch);
    const conditioning = { text, ...(pooled && { pooled }), ...sizes?.(batch) };
    const { lossMasks: masks } = batch;
    const image = byRow(encode.image(batch).rows.to('float32'), batch);
    return {
      latents,
      conditioning,
      imageFeatures: nullImage === 'zero-feature' ? withoutDropped(image, batch) : image,
      ...(masks && { lossMask: latentMasks(tensor(masks.data, masks.shape), latents).to(latents.device) }),
    };
  });
}

/** Returns the features of the references with those of a row together, where a row has several. */
function byRow(features: Tensor, { references }: Examples): Tensor {
  const count = references[0]?.length ?? 1;
  return count === 1 ? features : features.view(-1, count, ...features.shape.slice(1));
}

/** Returns the features with zeros in the rows that drop their image. */
function withoutDropped(features: Tensor, { drops }: Examples): Tensor {
  const kept = drops.map(({ dropImage }) => (dropImage ? 0 : 1));
  const shape = [drops.length, ...Array<number>(features.ndim - 1).fill(1)];
  return features.mul(tensor(kept, shape).to(features.device));
}
