/** @file Every recorded model gives the same outputs from each published form of its weights. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import {
  expectAllclose,
  expectSameBytes,
  golden,
  type ModelCase,
  modelCases,
  recorded,
  target,
} from '../../test/golden.js';
import {
  readJson,
  type Tensors,
  weightsOf,
  writeBin,
  writeJson,
  writeShards,
} from '../../test/model-files.js';
import { writeSafetensors } from '../formats/index.js';
import type { Module } from '../nn/module.js';
import { arange, noGrad, type Tensor, zeros } from '../torch/index.js';
import { loadImageEncoder } from './image-encoders.js';
import { loadTextEncoder, loadUNet, loadVAE } from './load.js';
import { openSingleFile, type SingleFileCheckpoint } from './single-file.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-forms-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));
const newPath = () => join(root, String(Math.random()));

/** A kind of model: how to load it, and to run it on a recorded case. */
interface Kind {
  prefix: string;
  weights: string;
  bin: string;
  load(source: string, options: typeof toFloat32): Module<never[], unknown>;
  run(source: string, one: ModelCase): Tensor[];
}

const runUNet = (source: string | SingleFileCheckpoint, one: ModelCase): Tensor[] => {
  const find = (name: string) => [...one.tensors].find(([key]) => key.split('.').at(-1) === name)?.[1];
  const [textEmbeds, timeIds] = [find('text_embeds'), find('time_ids')];
  const inputs = ['sample', 'timesteps', 'encoder_hidden_states'].map((name) => recorded(one, name));
  const added = textEmbeds && timeIds && { textEmbeds, timeIds };
  return [loadUNet(source, toFloat32).call(...(inputs as [Tensor, Tensor, Tensor]), added)];
};
const runVAE = (source: string | SingleFileCheckpoint, one: ModelCase): Tensor[] => {
  const vae = loadVAE(source, toFloat32);
  const { mean, logvar } = vae.encode(recorded(one, 'image'));
  return [mean, logvar, vae.decode(recorded(one, 'z'))];
};
const runText = (source: string | SingleFileCheckpoint, one: ModelCase): Tensor[] =>
  Object.values(loadTextEncoder(source, toFloat32).call(recorded(one, 'input_ids'))).flat();
const runImage = (source: string, one: ModelCase): Tensor[] => {
  const model = loadImageEncoder(source, toFloat32);
  const pixels = recorded(one, 'pixel_values');
  return [model.hiddenStates(pixels, -2), model.call(pixels)];
};

/**
 * Outputs are not bit-identical: a weight's position in its file determines its alignment in memory, for which some libraries
 * under LibTorch (MKL) change the order of sums.
 */
const rounding = 2e-6;

const toFloat32 = { dtype: 'float32', ...target } as const;
const diffusers = { weights: 'diffusion_pytorch_model', bin: 'diffusion_pytorch_model' };
const transformers = { weights: 'model', bin: 'pytorch_model' };
const kinds: Kind[] = [
  { prefix: 'unet', ...diffusers, load: loadUNet, run: runUNet },
  { prefix: 'vae', ...diffusers, load: loadVAE, run: runVAE },
  { prefix: 'text_encoder', ...transformers, load: loadTextEncoder, run: runText },
  { prefix: 'image_encoder', ...transformers, load: loadImageEncoder, run: runImage },
];

const half = (tensors: Tensors) =>
  new Map(Array.from(tensors, ([key, tensor]) => [key, tensor.to('float16')] as const));

/** Creates a folder with the config of a recorded model, without weights. */
function folderLike(one: ModelCase): string {
  const folder = newPath();
  cpSync(join(one.folder, 'config.json'), join(folder, 'config.json'));
  return folder;
}

describe.each(kinds)('$prefix*', ({ prefix, weights, bin, load, run }) => {
  describe.each(modelCases(prefix))('$name', (one) => {
    using _ = noGrad();
    const plain = run(one.folder, one);
    const tensors = weightsOf(one.folder, weights);
    const expectSame = (folder: string) => {
      using _ = noGrad();
      const plainWeights = load(one.folder, toFloat32).namedParameters();
      for (const [key, weight] of load(folder, toFloat32).namedParameters())
        expectSameBytes(weight, plainWeights.get(key) as Tensor);
      for (const [i, output] of run(folder, one).entries())
        expectAllclose(output, plain[i] as Tensor, rounding);
    };

    it.each([
      ['.bin', (folder: string) => writeBin(join(folder, `${bin}.bin`), tensors)],
      ['sharded .bin', (folder: string) => writeShards(folder, bin, 'bin', tensors)],
      ['sharded safetensors', (folder: string) => writeShards(folder, weights, 'safetensors', tensors)],
    ])('%s: the same', (_form, write) => {
      const folder = folderLike(one);
      write(folder);
      expectSame(folder);
    });

    it.each([
      [
        'safetensors',
        (folder: string) => writeSafetensors(join(folder, `${weights}.fp16.safetensors`), half(tensors)),
      ],
      ['.bin', (folder: string) => writeBin(join(folder, `${bin}.fp16.bin`), half(tensors))],
    ])('fp16 variant, %s: within its rounding', (_form, write) => {
      using _ = noGrad();
      const folder = folderLike(one);
      write(folder);
      // float16 keeps 11 bits; errors accumulate over a few dozen layers.
      for (const [i, output] of run(folder, one).entries()) expectAllclose(output, plain[i] as Tensor, 1e-2);
    });
  });
});

describe('a whole CLIP model', () => {
  const [image] = modelCases('image_encoder') as [ModelCase];
  const [text] = modelCases('text_encoder') as [ModelCase];
  const folder = newPath();
  cpSync(image.folder, folder, { recursive: true });
  const [visionConfig, textConfig] = [image, text].map((one) => readJson(join(one.folder, 'config.json')));
  const config = {
    model_type: 'clip',
    projection_dim: 40,
    vision_config: visionConfig,
    text_config: textConfig,
  };
  writeJson(join(folder, 'config.json'), config);
  const both = new Map([
    ...weightsOf(image.folder, 'model'),
    ...weightsOf(text.folder, 'model'),
    ['text_projection.weight', zeros([40, 32])] as const,
    ['logit_scale', zeros([])] as const,
  ]);
  rmSync(join(folder, 'model.safetensors'));
  writeSafetensors(join(folder, 'model.safetensors'), both);

  it.each([
    ['vision', image, runImage],
    ['text', text, runText],
  ] as const)('gives its %s part', (_part, one, run) => {
    using _ = noGrad();
    const plain = run(one.folder, one);
    for (const [i, output] of run(folder, one).entries())
      expectAllclose(output, plain[i] as Tensor, rounding);
  });
});

describe('one file in the LDM layout', () => {
  const [unet] = modelCases('unet') as [ModelCase];
  const [vae] = modelCases('vae') as [ModelCase];
  const [text] = modelCases('text_encoder') as [ModelCase];
  const keys: Record<string, Record<string, string>> = readJson(golden('ldm/diffusers_keys.json') as string);
  const rekeyed = (one: ModelCase, names: Record<string, string> | undefined, prefix: string) =>
    Array.from(
      weightsOf(one.folder, 'diffusion_pytorch_model'),
      ([key, tensor]) => [prefix + names?.[key], tensor] as const,
    );
  const isConv = /\.attn_1\.(q|k|v|proj_out)\.weight$/;
  const tensors = new Map<string, Tensor>([
    ['betas', zeros([1000])],
    ['model_ema.decay', zeros([])],
    ...rekeyed(unet, keys.tiny_unet, 'model.diffusion_model.'),
    ...rekeyed(vae, keys.tiny_vae, 'first_stage_model.').map(
      ([key, tensor]) => [key, isConv.test(key) ? tensor.unsqueeze(-1).unsqueeze(-1) : tensor] as const,
    ),
    ...Array.from(
      weightsOf(text.folder, 'model'),
      ([key, tensor]) => [`cond_stage_model.transformer.${key}`, tensor] as const,
    ),
    [
      'cond_stage_model.transformer.text_model.embeddings.position_ids',
      arange(0, 77, 1, { dtype: 'int64' }).unsqueeze(0),
    ],
  ]);
  const configs = {
    unet: readJson(join(unet.folder, 'config.json')),
    vae: readJson(join(vae.folder, 'config.json')),
    textEncoder: readJson(join(text.folder, 'config.json')),
  };

  it.each([
    ['safetensors', (path: string) => writeSafetensors(path, tensors)],
    ['ckpt', (path: string) => writeBin(path, tensors)],
  ])('.%s: the same', (ending, write) => {
    using _ = noGrad();
    const path = `${newPath()}.${ending}`;
    write(path);
    const file = openSingleFile(path, configs);
    expect(file.unused).toEqual(['betas', 'model_ema.decay']);
    for (const [one, run] of [
      [unet, runUNet],
      [vae, runVAE],
      [text, runText],
    ] as const) {
      const plain = run(one.folder, one);
      for (const [i, output] of run(file, one).entries())
        expectAllclose(output, plain[i] as Tensor, rounding);
    }
  });
});
