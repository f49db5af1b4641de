/**
 * @file Opens a single file of Stable Diffusion 1.x or XL in the layout of the original code (CompVis/stable-diffusion and
 * Stability-AI/generative-models, "LDM"), such as `v1-5-pruned-emaonly.safetensors`, `sd_xl_base_1.0.safetensors` or a
 * `.ckpt` of PyTorch Lightning.
 */
import { CheckpointError } from '../base/errors.js';
import { readSafetensors } from '../formats/index.js';
import { type Tensor, tidy } from '../torch/index.js';
import { summarizeKeys } from './published-keys.js';
import {
  familyOf,
  type PartConfigs,
  type SingleFileFamily,
  type SingleFilePart,
} from './single-file-family.js';
import { readTensorBin } from './weight-files.js';

interface SplitFile {
  family: SingleFileFamily;
  /** The tensors of each part, by their names without the part's prefix. */
  parts: Map<SingleFilePart, Map<string, Tensor>>;
  /** Names of the tensors that belong to no part, such as `model_ema.*`. */
  unused: readonly string[];
  /** See `SingleFileCheckpoint`. */
  prediction: Prediction;
}

/** What a file was trained to predict, as far as it says. */
export interface Prediction {
  /** Whether it is the velocity, not the noise. */
  isVelocity: boolean;
  /** Whether the last timestep is pure noise. */
  hasZeroTerminalSnr: boolean;
}

/** The tensors of an open file. Each model's part can be taken once; the model then owns the tensors. */
export class SingleFileCheckpoint {
  readonly path: string;
  readonly family: SingleFileFamily;
  /** The config.json that each part would have in a folder. */
  readonly configs: PartConfigs;
  /** Names of the tensors that belong to no part, such as `model_ema.*`. */
  readonly unused: readonly string[];
  /** Told by the keys `v_pred` and `ztsnr`, which ComfyUI reads and writes (`comfy/supported_models.py`). */
  readonly prediction: Prediction;
  readonly #parts: Map<SingleFilePart, Map<string, Tensor>>;

  constructor(path: string, { family, parts, unused, prediction }: SplitFile, configs: PartConfigs) {
    this.path = path;
    this.family = family;
    this.configs = configs;
    this.unused = unused;
    this.prediction = prediction;
    this.#parts = parts;
  }

  /** Returns a part's tensors, by their names without the part's prefix. */
  take(part: SingleFilePart): Map<string, Tensor> {
    const tensors = this.#parts.get(part);
    if (tensors === undefined) throw new Error(`the ${part} of ${this.path} has already been taken`);
    this.#parts.delete(part);
    return tensors;
  }

  /** Releases the parts that were not taken. */
  [Symbol.dispose](): void {
    for (const tensors of this.#parts.values()) for (const tensor of tensors.values()) tensor.dispose();
    this.#parts.clear();
  }
}

/**
 * Opens a file in the LDM layout: `.safetensors`, or else a torch file. Objects that PyTorch Lightning saved beside the weights
 * are skipped, never executed.
 * @param configs the models' configs, for tests with small models; default: the family's
 * @throws CheckpointError where the file cannot be read, contains another model or layout (the message says which), has no
 *   UNet, VAE or text encoder, or contains unknown tensors
 */
export function openSingleFile(path: string, configs?: PartConfigs): SingleFileCheckpoint {
  const split = tidy(() => splitFile(path));
  return new SingleFileCheckpoint(path, split, configs ?? split.family.configs);
}

function splitFile(path: string): SplitFile {
  const tensors = path.endsWith('.safetensors') ? readSafetensors(path).tensors : readTensorBin(path, 'skip');
  const family = familyOf(path, tensors);
  const prefixes = Object.entries(family.prefixes) as [SingleFilePart, string][];
  const parts = new Map(prefixes.map(([name]) => [name, new Map<string, Tensor>()]));
  const others: string[] = [];
  for (const [key, tensor] of tensors) {
    const [name, prefix] = prefixes.find(([, start]) => key.startsWith(start) && !isUnused.test(key)) ?? [];
    if (name === undefined || prefix === undefined) others.push(key);
    else parts.get(name)?.set(key.slice(prefix.length), tensor);
  }
  const unknown = others.filter((key) => !isUnused.test(key) && !isMarker.test(key));
  if (unknown.length > 0)
    throw new CheckpointError(
      `Expected only tensors of ${family.name} in ${path} but found others: ${summarizeKeys(unknown)}`,
    );
  const missing = prefixes.filter(([name]) => parts.get(name)?.size === 0);
  if (missing.length > 0)
    throw new CheckpointError(
      `Expected all parts of ${family.name} in ${path} but there is no ${missing.map(([, prefix]) => `${prefix}*`).join(', ')}; use a file with UNet, VAE and ${family.isXL ? 'both text encoders' : 'text encoder'}`,
    );
  const isVelocity = tensors.has('v_pred');
  return {
    family,
    parts,
    unused: others.filter((key) => !isMarker.test(key)),
    prediction: { isVelocity, hasZeroTerminalSnr: isVelocity && tensors.has('ztsnr') },
  };
}

/** Empty tensors whose names say something. */
const isMarker = /^(v_pred|ztsnr)$/;

// The EMA weights; the noise schedule, which the scheduler's config determines (`register_schedule` in
// ldm/models/diffusion/ddpm.py, `denoiser.sigmas` in generative-models); and CLIP's projection, which some tools save although
// the first text encoder's is not used.
const isUnused = new RegExp(
  [
    '^model_ema\\.',
    '^(betas|logvar|scale_factor|denoiser\\.sigmas)$',
    '^alphas_cumprod(_prev)?$',
    '^(sqrt|sqrt_recip|sqrt_recipm1|sqrt_one_minus|log_one_minus)_alphas_cumprod$',
    '^posterior_(variance|log_variance_clipped|mean_coef[12])$',
    '^(cond_stage_model|conditioner\\.embedders\\.0)\\.(logit_scale|text_projection|transformer\\.text_projection\\.weight)$',
  ].join('|'),
);
