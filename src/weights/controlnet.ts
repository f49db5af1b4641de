/**
 * @file Loads ControlNets: from folders of diffusers, and from single files with the keys of diffusers or of the original code
 * (lllyasviel/ControlNet `cldm/cldm.py`). A file has no config: it is read as one of the UNet that it is for.
 */
import { statSync } from 'node:fs';
import { CheckpointError, ConfigError } from '../base/errors.js';
import { readSafetensors } from '../formats/index.js';
import { type ControlNetConfig, parseControlNetConfig } from '../models/controlnet/controlnet-config.js';
import { ControlNetModel } from '../models/controlnet/controlnet-model.js';
import type { UNet2DConditionConfig } from '../models/unet/unet-config.js';
import { type Tensor, tidy } from '../torch/index.js';
import { readDiffusersConfig } from './config-file.js';
import { ldmUNetKeys } from './ldm-keys.js';
import { fill, type LoadOptions, loadFolder } from './load.js';
import { asPublished, summarizeKeys } from './published-keys.js';
import { diffusersWeights, readTensorBin } from './weight-files.js';

/** A ControlNet of which only the small files have been read. */
export interface ControlNetSource {
  config: ControlNetConfig;
  /** Reads the weights. @throws CheckpointError where they are missing, damaged or of another model */
  load(options: LoadOptions): ControlNetModel;
}

/**
 * Opens a ControlNet.
 * @param path a folder with config.json, or a file: .safetensors, or else a torch file
 * @param unet the config of the UNet that it is to control
 * @throws ConfigError, CheckpointError where it is another model, or is for another UNet
 */
export function openControlNetFiles(path: string, unet: UNet2DConditionConfig): ControlNetSource {
  if (!statSync(path).isDirectory()) return openFile(path, unet);
  const { json, where } = readDiffusersConfig(path, 'ControlNetModel');
  const config = parseControlNetConfig(json, where);
  assertFits(config, unet, where);
  return {
    config,
    load: (options) => loadFolder(new ControlNetModel(config), path, diffusersWeights, asPublished, options),
  };
}

/** @throws ConfigError where the ControlNet's states are not those of the UNet, or it reads other text */
function assertFits(config: ControlNetConfig, unet: UNet2DConditionConfig, where: string): void {
  const fail = (what: string, theirs: unknown, ours: unknown): never => {
    throw new ConfigError(
      `The ControlNet of ${where} is for a model of another family: its ${what} ${theirs}, and the model's ${ours}; take a ControlNet that was trained for this model`,
    );
  };
  const isXL = ({ textTime }: UNet2DConditionConfig): string =>
    textTime === null ? 'take no sizes (Stable Diffusion 1.x, 2.x)' : 'take sizes (SDXL)';
  if (isXL(config) !== isXL(unet)) fail('blocks', isXL(config), isXL(unet));
  const [theirText, ourText] = [config, unet].map(({ crossAttentionDim }) => Math.max(...crossAttentionDim));
  const readsText = config.midHasAttention || config.downHasAttention.includes(true);
  if (readsText && theirText !== ourText) fail('text is', `${theirText} wide`, `is ${ourText} wide`);
  const [theirs, ours] = [config, unet].map(
    ({ blockOutChannels, layersPerBlock }) =>
      `[${blockOutChannels.join(', ')}], with layers [${layersPerBlock.join(', ')}]`,
  );
  if (theirs !== ours) fail('blocks have channels', theirs, `have ${ours}`);
}

function openFile(path: string, unet: UNet2DConditionConfig): ControlNetSource {
  const read = (): Map<string, Tensor> => withDiffusersKeys(path, unet);
  const config = tidy(() => configOf(path, read(), unet));
  return {
    config,
    load: (options) => {
      const tensors = tidy(read);
      return fill(new ControlNetModel(config), { tensors, unused: [] }, path, [], options);
    },
  };
}

/** Returns the tensors of a file by their names in diffusers. */
function withDiffusersKeys(path: string, unet: UNet2DConditionConfig): Map<string, Tensor> {
  const tensors = path.endsWith('.safetensors') ? readSafetensors(path).tensors : readTensorBin(path, 'skip');
  const keys = [...tensors.keys()];
  if (keys.some((key) => key.startsWith('controlnet_cond_embedding.'))) return tensors;
  // Files of only the ControlNet are with or without the prefix that it has beside a whole model.
  const prefix = keys.some((key) => key.startsWith('control_model.')) ? 'control_model.' : '';
  if (!tensors.has(`${prefix}input_hint_block.0.weight`))
    throw new CheckpointError(
      `Expected a ControlNet in ${path} but its tensors are ${summarizeKeys(keys)}; ControlNets have controlnet_cond_embedding.* (diffusers) or input_hint_block.* (the original code)`,
    );
  const names = originalNames(unet);
  const own = keys.filter((key) => key.startsWith(prefix));
  return new Map(
    own.map((key) => {
      const name = key.slice(prefix.length);
      return [names.get(name) ?? name, tensors.get(key) as Tensor];
    }),
  );
}

/** Returns the names of diffusers by those of the original code, as a ControlNet for this UNet has them. */
function originalNames(unet: UNet2DConditionConfig): Map<string, string> {
  const keys = [...new ControlNetModel({ ...unet, ...published }).namedParameters().keys()];
  const shared = keys.filter((key) => !key.startsWith('controlnet_'));
  const own = keys.filter((key) => key.startsWith('controlnet_')).map((key) => [key, originalName(key)]);
  return new Map(
    [...ldmUNetKeys(shared, unet), ...(own as [string, string][])].map(([key, name]) => [name, key]),
  );
}

const MAX_LEVELS = 32;

/** The settings of a file, where its tensors do not say others. */
const published = {
  conditioningChannels: [16, 32, 96, 256],
  isBGR: false,
  globalPool: false,
  midHasAttention: true,
};

/** Between two convolutions is an activation, which has a number too. */
function originalName(key: string): string {
  const convolution = (i: number): string => `input_hint_block.${2 * i}`;
  return key
    .replace(/^controlnet_down_blocks\.(\d+)/, 'zero_convs.$1.0')
    .replace(/^controlnet_mid_block/, 'middle_block_out.0')
    .replace(/^controlnet_cond_embedding\.conv_in/, convolution(0))
    .replace(/^controlnet_cond_embedding\.blocks\.(\d+)/, (_, i) => convolution(Number(i) + 1))
    .replace(/^controlnet_cond_embedding\.conv_out/, convolution(7));
}

/** Returns the UNet's config with what the tensors' shapes say of a ControlNet. */
function configOf(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  unet: UNet2DConditionConfig,
): ControlNetConfig {
  const shape = (key: string): readonly number[] => {
    const found = tensors.get(key)?.shape;
    if (found !== undefined) return found;
    throw new CheckpointError(
      `Expected ${key} in the ControlNet ${path} but there is none; the file is incomplete`,
    );
  };
  const embedding = 'controlnet_cond_embedding';
  const blocks = [...tensors.keys()].filter((key) => /_embedding\.blocks\.\d*[13579]\.weight$/.test(key));
  const has = (start: string): boolean => [...tensors.keys()].some((key) => key.startsWith(start));
  const levels = Array.from({ length: MAX_LEVELS }, (_, i) => i).filter((i) => has(`down_blocks.${i}.`));
  const text = [...tensors.keys()].find((key) => key.endsWith('.attn2.to_k.weight'));
  const config: ControlNetConfig = {
    ...unet,
    ...published,
    blockOutChannels: levels.map((i) => shape(`down_blocks.${i}.resnets.0.conv1.weight`)[0] as number),
    inChannels: shape('conv_in.weight')[1] as number,
    conditioningChannels: [
      shape(`${embedding}.conv_in.weight`)[0] as number,
      ...blocks.sort(byNumber).map((key) => shape(key)[0] as number),
    ],
    midHasAttention: has('mid_block.attentions.'),
    downHasAttention: unet.downHasAttention.map((_, i) => has(`down_blocks.${i}.attentions.`)),
    textTime: has('add_embedding.') ? (unet.textTime ?? { inDim: 0, timeDim: 0 }) : null,
    crossAttentionDim:
      text === undefined
        ? unet.crossAttentionDim
        : unet.crossAttentionDim.map(() => shape(text)[1] as number),
  };
  assertFits(config, unet, path);
  return config;
}

function byNumber(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
