/** @file The families of single files: how each is recognised, and where its parts are. Other files are refused by name. */
import { CheckpointError } from '../base/errors.js';
import type { JsonObject } from '../base/json.js';
import type { Tensor } from '../torch/index.js';
import { summarizeKeys } from './published-keys.js';
import { sd15 } from './sd15.js';
import { sdxl } from './sdxl.js';

export type SingleFilePart = 'unet' | 'vae' | 'textEncoder' | 'textEncoder2';

export type PartConfigs = Partial<Record<SingleFilePart, JsonObject>>;

export interface SingleFileFamily {
  name: 'Stable Diffusion 1.x' | 'Stable Diffusion XL';
  isXL: boolean;
  /** How the names of each part's tensors start. */
  prefixes: Partial<Record<SingleFilePart, string>>;
  /** The config.json that each part would have in a folder. */
  configs: PartConfigs;
}

const unet = 'model.diffusion_model.';
const vae = 'first_stage_model.';

const stableDiffusion1: SingleFileFamily = {
  name: 'Stable Diffusion 1.x',
  isXL: false,
  prefixes: { unet, vae, textEncoder: 'cond_stage_model.transformer.' },
  configs: sd15,
};

const stableDiffusionXL: SingleFileFamily = {
  name: 'Stable Diffusion XL',
  isXL: true,
  prefixes: {
    unet,
    vae,
    textEncoder: 'conditioner.embedders.0.transformer.',
    textEncoder2: 'conditioner.embedders.1.model.',
  },
  configs: sdxl,
};

/** Other kinds of files, by a prefix of their tensors' names. */
const otherKinds: [start: string, what: string][] = [
  ['cond_stage_model.model.', 'Stable Diffusion 2.x, whose text encoder is in the open_clip layout'],
  ['conditioner.embedders.0.model.', 'the refiner of SDXL, which has one text encoder and no IP-Adapters'],
  ['edm_mean', 'Playground v2.5, which was trained with the noise of EDM'],
  ['edm_vpred.', 'a model that was trained with the noise of EDM, such as CosXL'],
  ['model.diffusion_model.joint_blocks.', 'Stable Diffusion 3'],
  ['model.diffusion_model.double_blocks.', 'Flux'],
  ['down_blocks.', 'a UNet in the diffusers layout, where the parent of its folder is the model'],
  ['control_model.', 'a ControlNet'],
  ['lora_', 'a LoRA'],
  ['ip_adapter.', 'an IP-Adapter'],
];

/** What UNets with other inputs than the latents are for, by their numbers of input channels. */
const otherInputs: Record<number, string> = { 8: 'for editing by instructions' };

/** @throws CheckpointError where the file is of no family; the message says what it is */
export function familyOf(path: string, tensors: ReadonlyMap<string, Tensor>): SingleFileFamily {
  const refuse = (what: string): never => {
    throw new CheckpointError(
      `Expected Stable Diffusion 1.x or XL in ${path} but it is ${what}; use a model folder in the diffusers layout, or a file of Stable Diffusion 1.x or XL`,
    );
  };
  const keys = [...tensors.keys()];
  const starts = (prefix: string): boolean => keys.some((key) => key.startsWith(prefix));
  for (const [start, what] of otherKinds) if (starts(start)) refuse(what);
  const channels = tensors.get(`${unet}input_blocks.0.0.weight`)?.shape[1];
  const use = otherInputs[channels ?? 4];
  if (use !== undefined) refuse(`a model ${use}, whose UNet has ${channels} input channels`);
  // The sizes and the pooled text that SDXL's UNet reads tell it from others, also where the text encoders are missing.
  const family =
    starts('conditioner.') || starts(`${unet}label_emb.0.`) ? stableDiffusionXL : stableDiffusion1;
  if (!Object.values(family.prefixes).some(starts))
    refuse(`another file, with the tensors ${summarizeKeys(keys)}`);
  // A model for inpainting differs from the others in this alone.
  const inputs = { ...family.configs.unet, in_channels: channels ?? 4 };
  return { ...family, configs: { ...family.configs, unet: inputs } };
}
