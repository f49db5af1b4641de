/** ControlNets from folders and files, in the keys of diffusers and of the original code, and what is refused. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import { readJson, writeBin, writeJson } from '../../test/model-files.js';
import { readSafetensors, writeSafetensors } from '../formats/index.js';
import { parseUNetConfig, type UNet2DConditionConfig } from '../models/unet/unet-config.js';
import { noGrad, type Tensor, zeros } from '../torch/index.js';
import { openControlNetFiles } from './controlnet.js';

const folder = golden('controlnet');
const scratch = mkdtempSync(join(tmpdir(), 'controlnet-'));
afterAll(() => rmSync(scratch, { recursive: true }));

/** The names of the original code (lllyasviel/ControlNet `cldm/cldm.py`) for the recorded ControlNet: a layer a level. */
const originalNames: [RegExp, string][] = [
  [/^controlnet_cond_embedding\.conv_in\./, 'input_hint_block.0.'],
  ...[2, 4, 6, 8, 10, 12].map((n, i): [RegExp, string] => [
    new RegExp(`^controlnet_cond_embedding\\.blocks\\.${i}\\.`),
    `input_hint_block.${n}.`,
  ]),
  [/^controlnet_cond_embedding\.conv_out\./, 'input_hint_block.14.'],
  [/^controlnet_down_blocks\.(\d+)\./, 'zero_convs.$1.0.'],
  [/^controlnet_mid_block\./, 'middle_block_out.0.'],
  [/^conv_in\./, 'input_blocks.0.0.'],
  [/^time_embedding\.linear_1\./, 'time_embed.0.'],
  [/^time_embedding\.linear_2\./, 'time_embed.2.'],
  [/^mid_block\.resnets\.0\./, 'middle_block.0.'],
  [/^mid_block\.attentions\.0\./, 'middle_block.1.'],
  [/^mid_block\.resnets\.1\./, 'middle_block.2.'],
  ...[0, 1, 2, 3].flatMap((level): [RegExp, string][] => [
    [new RegExp(`^down_blocks\\.${level}\\.resnets\\.0\\.`), `input_blocks.${1 + 2 * level}.0.`],
    [new RegExp(`^down_blocks\\.${level}\\.attentions\\.0\\.`), `input_blocks.${1 + 2 * level}.1.`],
    [
      new RegExp(`^down_blocks\\.${level}\\.downsamplers\\.0\\.conv\\.`),
      `input_blocks.${2 + 2 * level}.0.op.`,
    ],
  ]),
];
const ofResnets: [RegExp, string][] = [
  [/\.norm1\./, '.in_layers.0.'],
  [/\.conv1\./, '.in_layers.2.'],
  [/\.time_emb_proj\./, '.emb_layers.1.'],
  [/\.norm2\./, '.out_layers.0.'],
  [/\.conv2\./, '.out_layers.3.'],
  [/\.conv_shortcut\./, '.skip_connection.'],
];

function originalName(key: string): string {
  const names = key.includes('.resnets.') ? [...originalNames, ...ofResnets] : originalNames;
  return names.reduce((name, [from, to]) => name.replace(from, to), key);
}

describe.skipIf(folder === null)('openControlNetFiles (../shared/golden)', () => {
  const place = folder as string;
  const { models } = folder === null ? { models: {} } : readJson(join(place, 'config.json'));
  const unetJson = folder === null ? {} : readJson(join(place, models.unet, 'config.json'));
  const unet: UNet2DConditionConfig = parseUNetConfig(unetJson, 'the UNet');
  const weights = (): Map<string, Tensor> =>
    readSafetensors(join(place, 'controlnet/diffusion_pytorch_model.safetensors')).tensors;
  const renamed = (rename: (key: string) => string): Map<string, Tensor> =>
    new Map(Array.from(weights(), ([key, tensor]) => [rename(key), tensor]));

  it.each([
    ['diffusers.safetensors', (key: string) => key],
    ['prefixed.safetensors', (key: string) => `control_model.${originalName(key)}`],
    ['bare.safetensors', originalName],
    ['torch.pth', (key: string) => `control_model.${originalName(key)}`],
  ])('%s gives what the folder gives', (name, rename) => {
    const file = join(scratch, name);
    const tensors = renamed(rename);
    if (name.includes('prefixed')) tensors.set('first_stage_model.other', zeros([1]));
    if (name.endsWith('.pth')) writeBin(file, tensors);
    else writeSafetensors(file, tensors);
    const recorded = readGolden(join(place, 'io.safetensors'));
    const of = (key: string) => recorded.get(`forward.${key}`) as Tensor;
    const outputs = [file, join(place, 'controlnet')].map((path) => {
      const { config, load } = openControlNetFiles(path, unet);
      expect(config.conditioningChannels).toEqual([4, 8, 8, 16]);
      using net = load(target);
      using _ = noGrad();
      const condition = net.embed(of('image'));
      return net.call(of('sample'), of('timesteps'), of('encoder_hidden_states'), condition).mid;
    });
    expectAllclose(outputs[0] as Tensor, outputs[1] as Tensor, 0);
  });

  it.each([
    [
      'wider text',
      { cross_attention_dim: 48 },
      /another family: its text is 32 wide, and the model's is 48 wide/,
    ],
    [
      'another number of levels',
      {
        block_out_channels: [16, 16, 24],
        down_block_types: Array(3).fill('CrossAttnDownBlock2D'),
        up_block_types: Array(3).fill('CrossAttnUpBlock2D'),
      },
      /another family: its blocks have channels \[16, 16, 24, 24\].* and the model's have \[16, 16, 24\]/,
    ],
    [
      'SDXL',
      {
        addition_embed_type: 'text_time',
        addition_time_embed_dim: 8,
        projection_class_embeddings_input_dim: 64,
      },
      /another family: its blocks take no sizes .* and the model's take sizes \(SDXL\)/,
    ],
  ])('refuses one beside a UNet with %s', (_, change, message) => {
    const other = parseUNetConfig({ ...unetJson, ...change }, 'the UNet');
    const file = join(scratch, 'diffusers.safetensors');
    writeSafetensors(file, weights());
    for (const path of [file, join(place, 'controlnet')])
      expect(() => openControlNetFiles(path, other), path).toThrow(message);
  });

  it('refuses other files and folders, and incomplete ones', () => {
    const lora = join(scratch, 'lora.safetensors');
    writeSafetensors(lora, new Map([['lora_unet_down.alpha', zeros([1])]]));
    expect(() => openControlNetFiles(lora, unet)).toThrow(/Expected a ControlNet in .*lora_unet_down/);
    expect(() => openControlNetFiles(join(place, models.unet), unet)).toThrow(
      /_class_name = "ControlNetModel".* "UNet2DConditionModel"/,
    );
    const partial = join(scratch, 'partial.safetensors');
    writeSafetensors(
      partial,
      new Map([...weights()].filter(([key]) => !key.startsWith('mid_block.resnets.1'))),
    );
    const { load } = openControlNetFiles(partial, unet);
    expect(() => load(target)).toThrow(
      /ControlNetModel in .*partial.*missing \(\d+\): mid_block\.resnets\.1/s,
    );
    const copy = join(scratch, 'folder');
    cpSync(join(place, 'controlnet'), copy, { recursive: true });
    writeJson(join(copy, 'config.json'), { ...readJson(join(copy, 'config.json')), num_class_embeds: 4 });
    expect(() => openControlNetFiles(copy, unet)).toThrow(/null for num_class_embeds/);
  });
});
