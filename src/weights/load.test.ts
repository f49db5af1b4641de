import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { expectAllclose, golden, modelCases, recorded, target } from '../../test/golden.js';
import { CheckpointError, ConfigError } from '../base/errors.js';
import { readSafetensors, writeSafetensors } from '../formats/index.js';
import { arange, noGrad, type Tensor, zeros } from '../torch/index.js';
import { loadImageEncoder } from './image-encoders.js';
import { loadTextEncoder, loadUNet, loadVAE } from './load.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-load-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

let folder: string;
const copyOf = (name: string) => cpSync(golden(name) as string, folder, { recursive: true });
const weights = () => join(folder, 'diffusion_pytorch_model.safetensors');
const editConfig = (change: object) => {
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify({ ...JSON.parse(readFileSync(file, 'utf8')), ...change }));
};
const editWeights = (file: string, edit: (tensors: Map<string, Tensor>) => Map<string, Tensor>) => {
  const edited = edit(readSafetensors(file).tensors);
  rmSync(file);
  writeSafetensors(file, edited);
};

beforeEach(() => {
  folder = join(root, String(Math.random()));
});

describe('a folder that is not a model', () => {
  it('does not exist', () => {
    expect(() => loadUNet(folder)).toThrow(CheckpointError);
    expect(() => loadUNet(folder)).toThrow(`Expected a model folder at ${folder} but it does not exist`);
  });

  it('is a file', () => {
    writeFileSync(folder, '');
    expect(() => loadVAE(folder)).toThrow('it is a file');
  });

  it('is missing config.json', () => {
    copyOf('unet/unet');
    rmSync(join(folder, 'config.json'));
    expect(() => loadUNet(folder)).toThrow(CheckpointError);
    expect(() => loadUNet(folder)).toThrow(/config\.json but it does not exist; give a model folder/);
  });

  it.each(['{"_class_name": ', '[]', '5', 'null'])('has a broken config.json: %s', (text) => {
    copyOf('unet/unet');
    writeFileSync(join(folder, 'config.json'), text);
    expect(() => loadUNet(folder)).toThrow(ConfigError);
    expect(() => loadUNet(folder)).toThrow(/config\.json/);
  });

  it('is missing the weights', () => {
    copyOf('unet/unet');
    rmSync(weights());
    expect(() => loadUNet(folder)).toThrow(CheckpointError);
    expect(() => loadUNet(folder)).toThrow(CheckpointError);
    expect(() => loadUNet(folder)).toThrow(
      `Expected weights such as ${weights()} but there are none: download them`,
    );
  });

  it('is another model', () => {
    expect(() => loadUNet(golden('vae/vae') as string)).toThrow(
      /Expected _class_name = "UNet2DConditionModel" in .* but received "AutoencoderKL"/,
    );
    expect(() => loadTextEncoder(golden('image_encoder/image_encoder') as string)).toThrow(
      /"clip_text_model".*"clip_vision_model"/,
    );
    expect(() => loadVAE(golden('image_encoder/image_encoder') as string)).toThrow(
      /"AutoencoderKL".*received nothing/,
    );
  });

  it('is a whole CLIP model without the part', () => {
    copyOf('image_encoder/image_encoder');
    editConfig({ model_type: 'clip' });
    expect(() => loadImageEncoder(folder)).toThrow(ConfigError);
    expect(() => loadImageEncoder(folder)).toThrow(
      /Expected an object for vision_config of .*config\.json but received nothing/,
    );
  });

  it('has weights that do not fit', () => {
    copyOf('vae/vae');
    editWeights(weights(), (tensors) => {
      tensors.delete('quant_conv.bias');
      return tensors.set('extra', zeros([1])).set('post_quant_conv.bias', zeros([5]));
    });
    expect(() => loadVAE(folder)).toThrow(CheckpointError);
    expect(() => loadVAE(folder)).toThrow(
      /missing \(1\): quant_conv\.bias\n {2}unexpected \(1\): extra\n {2}misshaped \(1\): post_quant_conv\.bias expected \[4\] but received \[5\]/,
    );
  });
});

describe('files of older versions', () => {
  it('have other names in the autoencoder’s attention, and shapes of convolutions', () => {
    copyOf('vae/vae');
    const names = { to_q: 'query', to_k: 'key', to_v: 'value', 'to_out.0': 'proj_attn' };
    editWeights(weights(), (tensors) => {
      const renamed = new Map<string, Tensor>();
      for (const [key, tensor] of tensors) {
        const [newName, oldName] = Object.entries(names).find(([name]) => key.includes(`.${name}.`)) ?? [
          '',
          '',
        ];
        const isWeight = newName !== '' && key.startsWith('decoder') && tensor.ndim === 2;
        renamed.set(key.replace(newName, oldName), isWeight ? tensor.unsqueeze(-1).unsqueeze(-1) : tensor);
      }
      return renamed;
    });
    expect(readSafetensors(weights()).tensors.has('encoder.mid_block.attentions.0.proj_attn.weight')).toBe(
      true,
    );
    using _ = noGrad();
    const [one] = modelCases('vae') as [ReturnType<typeof modelCases>[number]];
    expectAllclose(loadVAE(folder, target).decode(recorded(one, 'z')), recorded(one, 'decoded'), 2e-5);
  });

  it('have CLIP’s position ids among the weights', () => {
    copyOf('text_encoder/text_encoder');
    editWeights(join(folder, 'model.safetensors'), (tensors) =>
      tensors.set('text_model.embeddings.position_ids', arange(0, 77, 1, { dtype: 'int64' }).unsqueeze(0)),
    );
    expect(() => loadTextEncoder(folder)).not.toThrow();
  });
});

describe('options', () => {
  it('convert the weights', () => {
    const unet = loadUNet(golden('unet/unet') as string, { dtype: 'bfloat16' });
    expect(new Set(unet.parameters().map(({ dtype }) => dtype))).toEqual(new Set(['bfloat16']));
    expect(loadUNet(golden('unet/unet') as string).conv_in.weight.dtype).toBe('float32');
  });
});
