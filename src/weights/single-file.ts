/**
 * @file A whole Stable Diffusion 1.x in one file, in the layout of the original code (CompVis/stable-diffusion, "LDM"):
 * `v1-5-pruned-emaonly.safetensors` and the like, or the `.ckpt` that PyTorch Lightning saved.
 */
import { CheckpointError } from '../base/errors.js';
import type { JsonObject } from '../base/json.js';
import { readSafetensors } from '../formats/index.js';
import { type Tensor, tidy } from '../torch/index.js';
import { summarizeKeys } from './published-keys.js';
import { sd15 } from './sd15.js';
import { readTensorBin } from './weight-files.js';

export type SingleFilePart = 'unet' | 'vae' | 'textEncoder';

const prefixes: Record<SingleFilePart, string> = {
  unet: 'model.diffusion_model.',
  vae: 'first_stage_model.',
  textEncoder: 'cond_stage_model.transformer.',
};

/** The tensors of an open file. Each part can be taken once: the model that takes it owns its tensors. */
export class SingleFileCheckpoint {
  readonly path: string;
  /** The config.json that each part would have. */
  readonly configs: Record<SingleFilePart, JsonObject>;
  /** Names of what is in the file and belongs to no part, such as `model_ema.*`. */
  readonly unused: readonly string[];
  readonly #parts: Map<SingleFilePart, Map<string, Tensor>>;

  constructor(
    path: string,
    configs: Record<SingleFilePart, JsonObject>,
    parts: Map<SingleFilePart, Map<string, Tensor>>,
    unused: readonly string[],
  ) {
    this.path = path;
    this.configs = configs;
    this.unused = unused;
    this.#parts = parts;
  }

  /** A part's tensors, by their names without the part's prefix. */
  take(part: SingleFilePart): Map<string, Tensor> {
    const tensors = this.#parts.get(part);
    if (tensors === undefined) throw new Error(`the ${part} of ${this.path} was taken already`);
    this.#parts.delete(part);
    return tensors;
  }

  /** Lets go of the parts that nobody took. */
  [Symbol.dispose](): void {
    for (const tensors of this.#parts.values()) for (const tensor of tensors.values()) tensor.dispose();
    this.#parts.clear();
  }
}

/**
 * Opens a file of Stable Diffusion 1.x in the LDM layout; `.safetensors` is mapped, anything else is read as torch's.
 * Of PyTorch Lightning's things beside the weights nothing is read, and nothing is run.
 * @param configs of another size than Stable Diffusion 1.x
 * @throws CheckpointError where the file cannot be read, is of another kind or layout (it says which), lacks a part, or
 *   holds tensors of an unknown purpose
 */
export function openSingleFile(
  path: string,
  configs: Record<SingleFilePart, JsonObject> = sd15,
): SingleFileCheckpoint {
  const { parts, unused } = tidy(() => split(path));
  return new SingleFileCheckpoint(path, configs, parts, unused);
}

function split(path: string): { parts: Map<SingleFilePart, Map<string, Tensor>>; unused: string[] } {
  const tensors = path.endsWith('.safetensors') ? readSafetensors(path).tensors : readTensorBin(path, 'skip');
  refuseOthers(path, tensors);
  const names = Object.keys(prefixes) as SingleFilePart[];
  const parts = new Map(names.map((name) => [name, new Map<string, Tensor>()]));
  const rest: string[] = [];
  for (const [key, tensor] of tensors) {
    const part = names.find((name) => key.startsWith(prefixes[name]) && !isUnused.test(key));
    if (part === undefined) rest.push(key);
    else parts.get(part)?.set(key.slice(prefixes[part].length), tensor);
  }
  const unknown = rest.filter((key) => !isUnused.test(key));
  if (unknown.length > 0)
    throw new CheckpointError(
      `Expected only the tensors of Stable Diffusion 1.x in ${path} but there are others: ${summarizeKeys(unknown)}`,
    );
  const missing = names.filter((name) => parts.get(name)?.size === 0);
  if (missing.length > 0)
    throw new CheckpointError(
      `Expected a whole Stable Diffusion 1.x in ${path} but it has no ${missing.map((name) => `${prefixes[name]}*`).join(', ')}; use a file that has UNet, VAE and text encoder`,
    );
  return { parts, unused: rest };
}

// The average of the weights over the training; the noise schedule, which follows from the scheduler's config
// (`register_schedule` in ldm/models/diffusion/ddpm.py); and CLIP's projection, which Stable Diffusion 1.x does not use
// and some tools save.
const isUnused = new RegExp(
  [
    '^model_ema\\.',
    '^(betas|logvar|scale_factor)$',
    '^alphas_cumprod(_prev)?$',
    '^(sqrt|sqrt_recip|sqrt_recipm1|sqrt_one_minus|log_one_minus)_alphas_cumprod$',
    '^posterior_(variance|log_variance_clipped|mean_coef[12])$',
    '^cond_stage_model\\.(logit_scale|text_projection|transformer\\.text_projection\\.weight)$',
  ].join('|'),
);

/** Other kinds of files, by what their names begin with. */
const otherKinds: [start: string, what: string][] = [
  ['cond_stage_model.model.', 'Stable Diffusion 2.x, whose text encoder is in the layout of open_clip'],
  ['conditioner.embedders.', 'SDXL'],
  ['model.diffusion_model.joint_blocks.', 'Stable Diffusion 3'],
  ['model.diffusion_model.double_blocks.', 'Flux'],
  ['down_blocks.', "a UNet in the layout of diffusers, whose folder's parent is the model"],
  ['control_model.', 'a ControlNet'],
  ['lora_', 'a LoRA'],
  ['ip_adapter.', 'an IP-Adapter'],
];

function refuseOthers(path: string, tensors: ReadonlyMap<string, Tensor>): void {
  const refuse = (what: string): never => {
    throw new CheckpointError(
      `Expected Stable Diffusion 1.x in ${path} but it is ${what}; give the model's folder in the layout of diffusers instead, or a file of Stable Diffusion 1.x`,
    );
  };
  const keys = [...tensors.keys()];
  for (const [start, what] of otherKinds) if (keys.some((key) => key.startsWith(start))) refuse(what);
  const channels = tensors.get('model.diffusion_model.input_blocks.0.0.weight')?.shape[1];
  if (channels === 9) refuse('a model for inpainting, whose UNet takes 9 channels');
  if (!keys.some((key) => Object.values(prefixes).some((prefix) => key.startsWith(prefix))))
    refuse(`something else, with the tensors ${summarizeKeys(keys)}`);
}
