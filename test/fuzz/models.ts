/** @file Hostile model folders, adapters and checkpoints, read as training and generation read them. */
import { readFileSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Random } from '../../demo/world/random.js';
import { openAdapter } from '../../src/adapters/open-adapter.js';
import { writeSafetensors } from '../../src/formats/index.js';
import { AdamW } from '../../src/optim/adamw.js';
import { Generator, tidy, zeros } from '../../src/torch/index.js';
import { loadCheckpoint, saveCheckpoint } from '../../src/training/checkpoints/checkpoint.js';
import { EncodingStore } from '../../src/training/encodings/store.js';
import { loadImageEncoder } from '../../src/weights/image-encoders.js';
import { loadTextEncoder, loadUNet, loadVAE } from '../../src/weights/load.js';
import { openSingleFile } from '../../src/weights/single-file.js';
import { mutateJson } from './json.js';
import { mutateSafetensors } from './safetensors.js';
import type { Target, TargetFactory } from './target.js';

const golden = fileURLToPath(new URL('../golden', import.meta.url));

const models = {
  unet: { path: 'unet/unet', weights: 'diffusion_pytorch_model.safetensors', load: loadUNet },
  vae: { path: 'vae/vae', weights: 'diffusion_pytorch_model.safetensors', load: loadVAE },
  'text encoder': { path: 'text_encoder/text_encoder', weights: 'model.safetensors', load: loadTextEncoder },
  'image encoder': {
    path: 'image_encoder/image_encoder',
    weights: 'model.safetensors',
    load: loadImageEncoder,
  },
};

/** For each model its config beside sound weights, and its weights' header beside a sound config. */
export function modelTargets(): Record<string, TargetFactory> {
  const found: Record<string, TargetFactory> = {};
  for (const [name, { path, weights, load }] of Object.entries(models)) {
    const source = join(golden, path);
    const target = (folder: string, file: string, other: string, make: Target['make']): Target => {
      symlinkSync(join(source, other), join(folder, other));
      return { file: join(folder, file), make, read: () => tidy(() => void load(folder)) };
    };
    found[`${name} config`] = (folder) => {
      const seed = readFileSync(join(source, 'config.json'), 'utf8');
      return target(folder, 'config.json', weights, (random) => mutateJson([seed], random));
    };
    found[`${name} weights`] = (folder) => {
      const seed = readFileSync(join(source, weights));
      return target(folder, weights, 'config.json', (random) => mutateSafetensors([seed], random));
    };
  }
  return found;
}

/** An adapter, opened for generation, which builds a model from the file's shapes. */
export function adapterTarget(folder: string): Target {
  const source = join(golden, 'train/final.safetensors');
  const unet = loadUNet(join(golden, 'unet/unet'));
  const seed = readFileSync(source);
  const file = join(folder, 'ip_adapter.safetensors');
  return {
    file,
    make: (random) => mutateSafetensors([seed], random),
    read: () => tidy(() => void openAdapter(file, unet.sites())),
  };
}

/** A Stable Diffusion in one file, of which only the names matter here. */
export function singleFileTarget(folder: string): Target {
  const file = join(folder, 'model.safetensors');
  const names = [
    'model.diffusion_model.input_blocks.0.0.weight',
    'first_stage_model.a',
    'cond_stage_model.transformer.a',
    'betas',
  ];
  tidy(() => writeSafetensors(file, new Map(names.map((name) => [name, zeros([2, 4, 1, 1])]))));
  const seed = readFileSync(file);
  const read = () => tidy(() => openSingleFile(file)[Symbol.dispose]());
  return { file, make: (random) => mutateSafetensors([seed], random), read };
}

/** A checkpoint as resuming takes it: its state, the optimizer's moments, the generator. */
function checkpointTarget(
  folder: string,
  name: string,
  mutate: (seed: Buffer, random: Random) => Buffer,
): Target {
  const parameters = new Map([
    ['a', zeros([3, 2])],
    ['b', zeros([4])],
  ]);
  const optimizer = new AdamW({ all: { parameters, learningRate: 1e-4 } });
  const generator = new Generator('cpu', 0);
  const path = saveCheckpoint(folder, {
    state: {
      ...{ step: 3, totalSteps: 10, updates: 3, epoch: 0, position: 6 },
      dataset: { rows: 9, fingerprint: 'a'.repeat(64) },
      options: { seed: 0, resolution: 64 },
    },
    adapter: parameters,
    ema: undefined,
    optimizer: optimizer.stateDict(),
    generator: generator.getState(),
  });
  const file = join(path, name);
  const seed = readFileSync(file);
  const read = () => {
    const checkpoint = loadCheckpoint(path);
    optimizer.loadStateDict(checkpoint.optimizer, checkpoint.state.updates, path);
    generator.setState(checkpoint.generator, path);
  };
  return { file, make: (random) => mutate(seed, random), read: () => tidy(read) };
}

export const checkpointStateTarget: TargetFactory = (folder) =>
  checkpointTarget(folder, 'training_state.json', (seed, random) => mutateJson([seed.toString()], random));

export const checkpointOptimizerTarget: TargetFactory = (folder) =>
  checkpointTarget(folder, 'optimizer.safetensors', (seed, random) => mutateSafetensors([seed], random));

/** A shard of cached encodings; a damaged one is removed by the store. */
export function cacheTarget(folder: string): Target {
  const file = join(folder, 'shard.safetensors');
  tidy(() => writeSafetensors(file, new Map([['rows', zeros([2, 3, 4])]]), { keys: 'key1 key2' }));
  const seed = readFileSync(file);
  const read = () => {
    using store = new EncodingStore(folder, 'float32');
    if (store.has('key1') && store.has('key2')) store.get(['key1', 'key2']);
  };
  return { file, make: (random) => mutateSafetensors([seed], random), read: () => tidy(read) };
}
