/**
 * @file Opens a single file of Stable Diffusion 1.x in the layout of the original code (CompVis/stable-diffusion, "LDM"), such
 * as `v1-5-pruned-emaonly.safetensors` or a `.ckpt` of PyTorch Lightning.
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

/** The tensors of an open file. Each model's part can be taken once; the model then owns the tensors. */
export class SingleFileCheckpoint {
  readonly path: string;
  /** The config.json that each part would have in a folder. */
  readonly configs: Record<SingleFilePart, JsonObject>;
  /** Names of the tensors that belong to no part, such as `model_ema.*`. */
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
 * Opens a file of Stable Diffusion 1.x in the LDM layout: `.safetensors`, or else a torch file. Objects that PyTorch Lightning
 * saved beside the weights are skipped, never executed.
 * @param configs the models' configs, for tests with small models
 * @throws CheckpointError where the file cannot be read, contains another model or layout (the message says which), has no
 *   UNet, VAE or text encoder, or contains unknown tensors
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
  const others: string[] = [];
  for (const [key, tensor] of tensors) {
    const part = names.find((name) => key.startsWith(prefixes[name]) && !isUnused.test(key));
    if (part === undefined) others.push(key);
    else parts.get(part)?.set(key.slice(prefixes[part].length), tensor);
  }
  const unknown = others.filter((key) => !isUnused.test(key));
  if (unknown.length > 0)
    throw new CheckpointError(
      `Expected only tensors of Stable Diffusion 1.x in ${path} but found others: ${summarizeKeys(unknown)}`,
    );
  const missing = names.filter((name) => parts.get(name)?.size === 0);
  if (missing.length > 0)
    throw new CheckpointError(
      `Expected all parts of Stable Diffusion 1.x in ${path} but there is no ${missing.map((name) => `${prefixes[name]}*`).join(', ')}; use a file with UNet, VAE and text encoder`,
    );
  return { parts, unused: others };
}

// The EMA weights; the noise schedule, which the scheduler's config determines (`register_schedule` in
// ldm/models/diffusion/ddpm.py); and CLIP's projection, which some tools save although Stable Diffusion 1.x does not use it.
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

/** Other kinds of files, by a prefix of their tensors' names. */
const otherKinds: [start: string, what: string][] = [
  ['cond_stage_model.model.', 'Stable Diffusion 2.x, whose text encoder is in the open_clip layout'],
  ['conditioner.embedders.', 'SDXL'],
  ['model.diffusion_model.joint_blocks.', 'Stable Diffusion 3'],
  ['model.diffusion_model.double_blocks.', 'Flux'],
  ['down_blocks.', 'a UNet in the diffusers layout, where the parent of its folder is the model'],
  ['control_model.', 'a ControlNet'],
  ['lora_', 'a LoRA'],
  ['ip_adapter.', 'an IP-Adapter'],
];

function refuseOthers(path: string, tensors: ReadonlyMap<string, Tensor>): void {
  const refuse = (what: string): never => {
    throw new CheckpointError(
      `Expected Stable Diffusion 1.x in ${path} but it is ${what}; use a model folder in the diffusers layout, or a file of Stable Diffusion 1.x`,
    );
  };
  const keys = [...tensors.keys()];
  for (const [start, what] of otherKinds) if (keys.some((key) => key.startsWith(start))) refuse(what);
  const channels = tensors.get('model.diffusion_model.input_blocks.0.0.weight')?.shape[1];
  if (channels === 9) refuse('an inpainting model, whose UNet has 9 input channels');
  if (!keys.some((key) => Object.values(prefixes).some((prefix) => key.startsWith(prefix))))
    refuse(`another file, with the tensors ${summarizeKeys(keys)}`);
}
