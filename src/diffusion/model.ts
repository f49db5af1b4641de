/**
 * @file The interface between families of diffusion models and the code that uses them. Training and generation use a
 * `DiffusionModel`; each family is one file in this folder that opens one (docs/adding-a-model-family.md).
 */
import type { PromptTokenizer } from '../models/clip/clip-tokenizer.js';
import type { AttentionSite, SiteAddition } from '../models/layers/attention-site.js';
import type { Residuals } from '../models/unet/unet-encoder.js';
import type { AutoencoderKL } from '../models/vae/autoencoder-kl.js';
import type { SchedulerFile } from '../schedulers/config.js';
import type { Device, Tensor } from '../torch/index.js';
import type { LoadOptions } from '../weights/load.js';
import type { Conditioning, ImageSizes } from './conditioning.js';
import type { ControlNet } from './controlnet.js';
import type { Objective } from './objective.js';

// Re-exported so that users of a DiffusionModel do not depend on the rooms of the networks.
export type { AutoencoderKL, PromptTokenizer, Residuals };

/**
 * A text-to-image model of which only the small files have been read. The weights of a part are read when it is loaded, so
 * most faults are found before gigabytes are read. All methods throw ConfigError or CheckpointError where a part is missing,
 * damaged or not supported.
 */
export interface DiffusionModel {
  /** Such as 'Stable Diffusion'. */
  readonly family: string;
  /** The folder or file of the model. */
  readonly path: string;
  readonly latents: LatentSpace;
  /** The side of the images that the model was trained on, in pixels. */
  readonly imageSize: number;
  tokenizer(): PromptTokenizer;
  /** Returns what the model was trained to predict. */
  objective(device: Device): Objective;
  /** Reads the model's settings for sampling. */
  schedulerFile(): SchedulerFile;
  /** Where the weights are: a folder, or the file that holds all parts. */
  readonly backbonePath: string;
  readonly vaePath: string;
  readonly textEncoderPaths: readonly string[];
  /** Whether it is for inpainting: its backbone takes `Conditioning.concat`, a mask and the rest of the image. */
  readonly takesMask: boolean;
  /** What replaces a negative prompt that is unset: states of zeros, or the empty text. */
  readonly absentNegative: 'zeros' | 'empty text';
  /** Returns the size conditioning, one row for each image; null for a family without. */
  readonly sizeConditioning: ((sizes: readonly ImageSizes[], device: Device) => SizeConditioning) | null;
  loadBackbone(options: PartOptions): Backbone;
  loadTextEncoder(options: PartOptions): TextEncoder;
  loadVAE(options: PartOptions): AutoencoderKL;
  /** Opens a ControlNet for this model, by its path or name on the Hub, without its weights; returns what loads it. */
  openControlNet(nameOrPath: string): (options: PartOptions) => ControlNet;
}

export type PartOptions = LoadOptions & { device: Device };

export type SizeConditioning = Required<Pick<Conditioning, 'timeIds'>>;

/** How images become latents and back. */
export interface LatentSpace {
  channels: number;
  /** Pixels per latent, in each direction. */
  downsample: number;
  /** The factor between the VAE's latents and those of the backbone (`scaling_factor`). */
  scale: number;
}

/** The text encoder, or several as one. All text is encoded here. */
export interface TextEncoder extends Disposable {
  /**
   * Encodes text.
   * @param inputIds int64 [batch, …tokenizer.shape], on the encoder's device
   * @param clipSkip the number of layers at the end to leave out, as diffusers' `clip_skip`; 0 as published
   */
  condition(inputIds: Tensor, clipSkip: number): Conditioning;
  parameters(): Tensor[];
}

/** What a backbone is told that changes from step to step. */
interface BackboneStep {
  /** What adapters add to the attentions. */
  additions?: readonly SiteAddition[];
  /** What ControlNets add to the states of the backbone. */
  residuals?: Residuals | undefined;
}

/** The network that predicts noise or velocity, with the sites that adapters add to. */
export interface Backbone extends Disposable {
  /**
   * Returns the prediction, in the shape of `noisy` and the backbone's dtype. The loss compares it with `Objective.target`.
   * @param noisy [batch, channels, height, width]
   * @param timesteps [batch], [1] or []
   */
  predict(noisy: Tensor, timesteps: Tensor, conditioning: Conditioning, step?: BackboneStep): Tensor;
  readonly sites: readonly AttentionSite[];
  parameters(): Tensor[];
}
