/** Parts of a model that do not go together: every command says so at once, and writes nothing. */
import { cpSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { golden } from '../golden.js';
import { readJson, writeJson } from '../model-files.js';
import { runProgram } from './command.js';
import { makeWorld, type World } from './world.js';

const command = join(fileURLToPath(new URL('../..', import.meta.url)), 'dist/cli/ip-adapter.cjs');
const xl = golden('sdxl_base_models');

let world: World;
beforeAll(async () => {
  world = await makeWorld(2);
});
afterAll(() => world.remove());

type Changes = Record<string, Record<string, unknown>>;

/** Copies a model with some keys of its parts' configs replaced. */
function copy(name: string, source: string, changes: Changes): string {
  const folder = join(world.root, name);
  cpSync(source, folder, { recursive: true });
  for (const [part, change] of Object.entries(changes)) {
    const file = join(folder, part, 'config.json');
    writeJson(file, { ...readJson(file), ...change });
  }
  return folder;
}

const files = () => readdirSync(world.root, { recursive: true }).sort();

/** The commands that take a model, each with an output that must not come to be. */
function commands(model: string): string[][] {
  const data = ['--dataset', 'data.json', '--dataset-root', 'images'];
  const encoder = ['--image-encoder', 'image_encoder'];
  // Not an adapter, which is not found out: it is opened after the model.
  const adapter = 'model/unet/diffusion_pytorch_model.safetensors';
  const train = [
    'train',
    '--model',
    model,
    ...encoder,
    ...data,
    '--output-dir',
    'never',
    '--resolution',
    '64',
  ];
  return [
    [...train, '--max-train-steps', '1'],
    [...train, '--cache', 'latents', 'text', 'image', '--cache-dir', 'never-cached'],
    [...train, '--cache', 'latents', 'text', 'image', '--dry-run'],
    ['generate', '--model', model, '--prompt', 'a', '--steps', '2', '--out', 'never.png'],
    ['evaluate', '--model', model, ...encoder, '--adapter', adapter, ...data, '--out', 'never'],
  ];
}

/** @param command its number in `commands`; default: all, each of which takes seconds */
async function expectRefused(model: string, message: RegExp, only?: number): Promise<void> {
  const initialFiles = files();
  for (const args of commands(model).filter((_, i) => only === undefined || i === only)) {
    const { exitCode, stdout, stderr } = await runProgram(process.execPath, [command, ...args], {
      cwd: world.root,
    });
    expect([exitCode, stdout], stderr).toEqual([2, '']);
    const errors = stderr.split('\n').filter((line) => !/^JSON: 2 rows/.test(line));
    expect(errors, args.join(' ')).toEqual([
      expect.stringMatching(new RegExp(`^ConfigError: .*${message.source}`)),
    ]);
    expect(files()).toEqual(initialFiles);
  }
}

// A process a command, each of which loads the engine.
describe('Stable Diffusion', { timeout: 240_000 }, () => {
  it.each<[string, Changes, RegExp]>([
    [
      'a text encoder of another width',
      { text_encoder: { hidden_size: 64 } },
      /attends to text 32 wide, and the text encoder \(.*\) gives text 64 wide; take the text encoder/,
    ],
    [
      'a UNet for editing',
      { unet: { in_channels: 8 } },
      /takes 8 channels and gives 4, as for editing by instructions; take a text-to-image model, whose UNet takes 4/,
    ],
    [
      'a VAE with other latents',
      { vae: { latent_channels: 16 } },
      /takes latents of 4 channels, and the VAE \(.*\) has latents of 16; take the VAE/,
    ],
  ])('with %s', async (name, changes, message) => {
    const model = copy(name.replaceAll(' ', '-'), join(world.root, 'model'), changes);
    await expectRefused(model, message, name.startsWith('a text encoder') ? undefined : 1);
  });

  it('in training, a UNet for inpainting', async () => {
    const model = copy('inpainting', join(world.root, 'model'), { unet: { in_channels: 9 } });
    await expectRefused(model, /a model for inpainting, .* train with a text-to-image model/, 0);
  });
});

describe.skipIf(xl === null)('SDXL (../shared/golden)', { timeout: 240_000 }, () => {
  it.each<[string, Changes, RegExp]>([
    [
      'a second text encoder of another projection',
      { text_encoder_2: { projection_dim: 16 } },
      /in 72 numbers, and the second text encoder \(.*\) gives 16 \+ 6 × 8 = 64; take the second text encoder/,
    ],
    [
      'a second text encoder without projection',
      { text_encoder_2: { architectures: ['CLIPTextModel'] } },
      /Expected a CLIPTextModelWithProjection as the second text encoder of SDXL/,
    ],
    [
      'a first text encoder of another width',
      { text_encoder: { hidden_size: 24 } },
      /attends to text 40 wide, and the text encoders \(.*text_encoder and .*text_encoder_2\) give text 24 \+ 24 wide/,
    ],
    [
      'the refiner',
      { unet: { projection_class_embeddings_input_dim: 24 + 5 * 8, cross_attention_dim: 24 } },
      /is the refiner of SDXL, which takes an aesthetic score/,
    ],
  ])('with %s', async (name, changes, message) => {
    await expectRefused(copy(name.replaceAll(' ', '-'), xl as string, changes), message, 1);
  });
});
