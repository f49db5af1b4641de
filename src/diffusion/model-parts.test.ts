import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { golden } from '../../test/golden.js';
import { ldmFile, v1, xl } from '../../test/ldm-layout.js';
import { writeSparse } from '../../test/model-files.js';
import { openImageEncoder } from '../adapters/image-encoder.js';
import { CheckpointError, ConfigError } from '../base/errors.js';
import { writeSafetensors } from '../formats/index.js';
import { readSchedulerConfig } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import { zeros } from '../torch/index.js';
import { openModelParts } from './model-parts.js';
import { openDiffusionModel } from './open-model.js';

let world: World;
let root: string;
let file: string;
beforeAll(async () => {
  world = await makeWorld(1);
});
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-sd-'));
  file = join(root, 'v1-5-pruned.safetensors');
  writeSparse(
    file,
    ldmFile(v1).set('model_ema.decay', []).set('model_ema.diffusion_modeltime_embed0bias', [1280]),
  );
  vi.stubEnv('HF_HUB_CACHE', join(root, 'cache'));
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(root, { recursive: true });
});
afterAll(() => world.remove());

const target = { dtype: 'float32', device: 'cpu' } as const;
const copyTokenizer = (folder: string) =>
  cpSync(join(world.root, 'model', 'tokenizer'), folder, { recursive: true });

/** Puts a folder where the Hub's cache would have it. */
function cached(repo: string, fill: (snapshot: string) => void): void {
  const folder = join(root, 'cache', `models--${repo.replace('/', '--')}`);
  mkdirSync(join(folder, 'refs'), { recursive: true });
  writeFileSync(join(folder, 'refs', 'main'), 'abc');
  fill(join(folder, 'snapshots', 'abc'));
}

describe('a file of Stable Diffusion 1.x', () => {
  it('gives the three models, and says what it does not use', () => {
    const messages: string[] = [];
    const options = { ...target, onMessage: (message: string) => messages.push(message) };
    const model = openModelParts(file);
    expect(model.sampleSize()).toBe(64);
    expect(model.loadTextEncoder(options).config.hiddenSize).toBe(768);
    expect(model.loadVAE(options).config.scalingFactor).toBe(0.18215);
    expect(model.loadUNet(options).config.crossAttentionDim).toEqual([768, 768, 768, 768]);
    expect(messages).toEqual([
      expect.stringMatching(
        /^Stable Diffusion 1\.x in the LDM layout: .*v1-5-pruned\.safetensors; not used: betas, .*model_ema\.\* \(2\)/,
      ),
      `CLIPTextModel: 196 tensors, float32, from ${file}; not used: text_model.embeddings.position_ids`,
      `AutoencoderKL: 248 tensors, float32, from ${file}`,
      `UNet2DConditionModel: 686 tensors, float32, from ${file}`,
    ]);
  });

  it('has the scheduler of Stable Diffusion 1.5', () => {
    const published = readSchedulerConfig(golden('schedulers/sd15_scheduler_config.json') as string);
    const model = openModelParts(file);
    expect(model.schedulerFile()).toEqual({ ...published, file: `Stable Diffusion 1.x (${file})` });
    expect(model.noiseConfig()).toEqual(published.config);
  });

  it.each([
    ['in a folder beside it', () => copyTokenizer(join(root, 'tokenizer'))],
    ['right beside it', () => copyTokenizer(root)],
    ['in the Hub’s cache', () => cached('openai/clip-vit-large-patch14', copyTokenizer)],
  ])('takes its tokenizer %s', (_where, put) => {
    put();
    expect(openModelParts(file).tokenizer().encode('a')).toHaveLength(77);
  });

  it('says where to put a tokenizer where there is none', () => {
    const load = () => openModelParts(file).tokenizer();
    expect(load).toThrow(CheckpointError);
    expect(load).toThrow(
      /a checkpoint file has no vocabulary\. Put vocab\.json and merges\.txt of openai\/clip-vit-large-patch14.* into .*tokenizer; or .*hf download/,
    );
  });
});

describe('a file of SDXL', () => {
  const published = (...markers: string[]): string => {
    const shapes = ldmFile(xl);
    for (const marker of markers) shapes.set(marker, [0]);
    writeSparse(join(root, 'sd_xl_base_1.0.safetensors'), shapes, 'float16');
    return join(root, 'sd_xl_base_1.0.safetensors');
  };

  it('is opened as SDXL, and gives its models', () => {
    const messages: string[] = [];
    const options = { device: 'cpu', onMessage: (message: string) => messages.push(message) } as const;
    const path = published();
    copyTokenizer(join(root, 'tokenizer'));
    copyTokenizer(join(root, 'tokenizer_2'));
    const model = openDiffusionModel(path);
    expect(model).toMatchObject({
      family: 'Stable Diffusion XL',
      imageSize: 1024,
      latents: { channels: 4, downsample: 8, scale: 0.13025 },
      absentNegative: 'zeros',
      textEncoderPaths: [path, path],
    });
    expect(model.tokenizer().shape).toEqual([2, 77]);
    expect(model.loadTextEncoder(options).parameters()).toHaveLength(196 + 517);
    expect(model.loadVAE({ ...options, dtype: 'float16' }).encoder.conv_in.weight.dtype).toBe('float32');
    expect(model.loadBackbone(options).sites).toHaveLength(70);
    expect(messages).toEqual([
      `Stable Diffusion XL in the LDM layout: ${path}; not used: denoiser.sigmas`,
      `CLIPTextModel: 196 tensors, float16, from ${path}; not used: text_model.embeddings.position_ids`,
      `CLIPTextModelWithProjection: 517 tensors, float16, from ${path}; not used: logit_scale`,
      `AutoencoderKL: 248 tensors, float16, from ${path}`,
      `UNet2DConditionModel: 1680 tensors, float16, from ${path}`,
    ]);
  });

  it.each([
    [[], { prediction_type: 'epsilon', rescale_betas_zero_snr: false }, [751, 501, 251, 1]],
    [['v_pred'], { prediction_type: 'v_prediction', rescale_betas_zero_snr: false }, [751, 501, 251, 1]],
    [
      ['v_pred', 'ztsnr'],
      { prediction_type: 'v_prediction', rescale_betas_zero_snr: true },
      [999, 749, 499, 249],
    ],
  ])('with the keys %j has this scheduler', (markers, expected, timesteps) => {
    const file = openModelParts(published(...markers)).schedulerFile();
    const betas = { beta_start: 0.00085, beta_end: 0.012, beta_schedule: 'scaled_linear' };
    expect(file.className).toBe('EulerDiscreteScheduler');
    expect(file.config).toMatchObject({ ...betas, ...expected });
    using sampler = createSampler(file);
    sampler.setTimesteps(4);
    expect(sampler.timesteps).toEqual(timesteps);
  });

  it('takes a second tokenizer beside it, or the first one with another padding token', () => {
    const parts = openModelParts(published());
    const vocabulary = {
      ...Object.fromEntries([...'!abcdefgh'].map((character, id) => [character, id])),
      ...{ 'a</w>': 9, '!</w>': 10, '<|startoftext|>': 11, '<|endoftext|>': 12 },
    };
    mkdirSync(join(root, 'tokenizer'));
    writeFileSync(join(root, 'tokenizer', 'vocab.json'), JSON.stringify(vocabulary));
    writeFileSync(join(root, 'tokenizer', 'merges.txt'), '#version: 0.2\n');
    const padded = (ids: number[], pad: number) => [...ids, ...Array<number>(77 - ids.length).fill(pad)];
    expect(parts.tokenizer().encode('a!')).toEqual(padded([11, 9, 10, 12], 12));
    expect(parts.tokenizer('tokenizer_2').encode('a!')).toEqual(padded([11, 9, 0, 12], 0));
    copyTokenizer(join(root, 'tokenizer_2'));
    expect(parts.tokenizer('tokenizer_2').encode('a!').at(-1)).toBe(73);
  });
});

it('refuses a file of another model without a tokenizer for what it is', () => {
  const refiner = join(root, 'refiner.safetensors');
  writeSafetensors(refiner, new Map([['conditioner.embedders.0.model.ln_final.bias', zeros([1])]]));
  expect(() => openModelParts(refiner).tokenizer()).toThrow(/ but it is the refiner of SDXL/);
});

describe('sample_size', () => {
  const withSampleSize = (size: unknown) => {
    cpSync(join(world.root, 'model/unet/config.json'), join(root, 'sized/unet/config.json'));
    const config = JSON.parse(readFileSync(join(root, 'sized/unet/config.json'), 'utf8'));
    writeFileSync(join(root, 'sized/unet/config.json'), JSON.stringify({ ...config, sample_size: size }));
    return openModelParts(join(root, 'sized')).sampleSize();
  };

  it.each([
    [96, 96],
    [[8, 8], 8],
    [null, 64],
    [undefined, 64],
  ])('%j is read as %j', (size, expected) => {
    expect(withSampleSize(size)).toBe(expected);
  });

  it.each([[[8, 12]], [[]], ['64'], [0], [-8], [8.5], [{}], [true]])('%j is refused', (size) => {
    expect(() => withSampleSize(size)).toThrow(ConfigError);
    expect(() => withSampleSize(size)).toThrow(/for sample_size in .*config\.json but received/);
  });
});

describe('a name in the Hub’s cache', () => {
  it('gives the models of a training run', () => {
    cached('org/sd', (snapshot) => cpSync(join(world.root, 'model'), snapshot, { recursive: true }));
    cached('h94/IP-Adapter', (snapshot) =>
      cpSync(join(world.root, 'image_encoder'), join(snapshot, 'models', 'image_encoder'), {
        recursive: true,
      }),
    );
    expect(openImageEncoder('h94/IP-Adapter/models/image_encoder').widths.tokens).toBe(48);
    const model = openDiffusionModel('org/sd');
    expect(model.objective('cpu').numTrainTimesteps).toBe(1000);
    expect(model.loadBackbone(target).sites).not.toHaveLength(0);
    const { sample_size } = JSON.parse(readFileSync(join(world.root, 'model/unet/config.json'), 'utf8'));
    expect(openModelParts('org/sd').sampleSize()).toBe(sample_size);
  });
});
