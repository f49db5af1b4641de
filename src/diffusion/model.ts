/**
 * @file The seam between the families of diffusion models and all that uses them. Training and generation see a
 * `DiffusionModel`; a family is a file beside this one that opens one (docs/adding-a-family.md).
 */

import type { PromptTokenizer } from '../models/clip/clip-tokenizer.js';
import type { AttentionSite, SiteAddition } from '../models/layers/attention-site.js';
import type { AutoencoderKL } from '../models/vae/autoencoder-kl.js';
import type { SchedulerFile } from '../schedulers/config.js';
import type { Device, Tensor } from '../torch/index.js';
import type { LoadOptions } from '../weights/load.js';
import type { Conditioning, ImageSizes } from './conditioning.js';
import type { Objective } from './objective.js';

/**
 * A text-to-image model, opened: the small files have been read, and each part's weights are read when the part is loaded.
 * Cheap faults are so found before gigabytes are read. All methods throw ConfigError or CheckpointError where a part is
 * missing, damaged or not supported.
 */
export interface DiffusionModel {
  /** Such as 'Stable Diffusion'. */
  readonly family: string;
  /** Its folder or file. */
  readonly path: string;
  readonly latents: LatentSpace;
  /** Side of the images that it was trained on, in pixels. */
  readonly imageSize: number;
  tokenizer(): PromptTokenizer;
  /** What it was trained to predict. */
  objective(device: Device): Objective;
  /** Its settings for sampling. */
  schedulerFile(): SchedulerFile;
  /** Where the weights are: a folder, or the file that holds all parts. */
  readonly backbonePath: string;
  readonly vaePath: string;
  readonly textEncoderPaths: readonly string[];
  /** What a negative prompt that is not given is: no text at all (states of zeros), or the empty text. */
  readonly absentNegative: 'zeros' | 'empty text';
  /** Returns the conditioning by the images' sizes, a row each; null for a family without. */
  readonly sizeConditioning: ((sizes: readonly ImageSizes[], device: Device) => SizeConditioning) | null;
  loadBackbone(options: PartOptions): Backbone;
  loadTextEncoder(options: PartOptions): TextEncoder;
  loadVAE(options: PartOptions): AutoencoderKL;
}

export type PartOptions = LoadOptions & { device: Device };

export type SizeConditioning = Required<Pick<Conditioning, 'timeIds'>>;

/** How images become latents and back. */
export interface LatentSpace {
  channels: number;
  /** Pixels that one latent stands for, in each direction. */
  downsample: number;
  /** What latents are multiplied by before the backbone sees them. */
  scale: number;
}

/** The one place where text is encoded. */
export interface TextEncoder extends Disposable {
  /**
   * @param inputIds int64 [batch, …] of the tokenizer's shape, on the encoder's device
   * @param clipSkip layers at the end that are left out for the states, as diffusers' `clip_skip`; 0 as published
   */
  condition(inputIds: Tensor, clipSkip: number): Conditioning;
  parameters(): Tensor[];
}

/** The network that predicts, with the places where adapters add to it. */
export interface Backbone extends Disposable {
  /**
   * Returns what the objective's target is compared with, in the shape of `noisy` and the backbone's dtype.
   * @param noisy [batch, channels, height, width]
   * @param timesteps [batch], [1] or []
   * @param additions of adapters
   */
  predict(
    noisy: Tensor,
    timesteps: Tensor,
    conditioning: Conditioning,
    additions?: readonly SiteAddition[],
  ): Tensor;
  readonly sites: readonly AttentionSite[];
  parameters(): Tensor[];
}
