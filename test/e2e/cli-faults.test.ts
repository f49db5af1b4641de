import { spawn } from 'node:child_process';
import {
  closeSync,
  cpSync,
  existsSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ipAdapter, start } from './command.js';
import { flagsOf, makeWorld, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());
const flags = (changes: Record<string, string | undefined>): string[] => flagsOf(world, changes);

describe('bad input: an error message, exit code 2, nothing written', () => {
  /** A copy of a model folder that may be spoilt. */
  function spoilt(name: string, spoil: (folder: string) => void): string {
    const folder = join(world.root, `spoilt ${name}`);
    cpSync(join(world.root, 'model'), folder, { recursive: true });
    spoil(folder);
    return folder;
  }
  const weights = 'unet/diffusion_pytorch_model.safetensors';
  const written = (name: string, text: string): string => {
    writeFileSync(join(world.root, name), text);
    return join(world.root, name);
  };

  const cases: [string, () => Record<string, string | undefined>, RegExp][] = [
    [
      'a missing dataset',
      () => ({ data_json_file: '/nowhere/data.json' }),
      /DatasetError: .*\/nowhere\/data\.json/,
    ],
    [
      'broken JSON',
      () => ({ data_json_file: written('broken.json', '[{"image_file": "0.png",\n "text" "x"}]') }),
      /DatasetError: .*broken\.json .*2:\d+/,
    ],
    [
      'a row without text',
      () => ({
        data_json_file: written(
          'textless.json',
          '[{"image_file": "0.png", "text": "x"}, {"image_file": "1.png"}]',
        ),
      }),
      /DatasetError: [\s\S]*row 1: "text" is missing/,
    ],
    [
      'a missing model folder',
      () => ({ pretrained_model_name_or_path: '/nowhere/model' }),
      /Error: .*\/nowhere\/model/,
    ],
    [
      'a missing image encoder',
      () => ({ image_encoder_path: '/nowhere/encoder' }),
      /CheckpointError: .*\/nowhere\/encoder/,
    ],
    [
      'a missing weights file',
      () => ({ pretrained_model_name_or_path: spoilt('missing', (folder) => rmSync(join(folder, weights))) }),
      /CheckpointError: .*diffusion_pytorch_model\.safetensors/,
    ],
    [
      'truncated weights',
      () => ({
        pretrained_model_name_or_path: spoilt('truncated', (folder) =>
          truncateSync(join(folder, weights), statSync(join(folder, weights)).size - 100),
        ),
      }),
      /CheckpointError: .*truncated/,
    ],
    [
      'a header larger than the file',
      () => ({
        pretrained_model_name_or_path: spoilt('header', (folder) => truncateSync(join(folder, weights), 100)),
      }),
      /CheckpointError: .*header claims \d+ bytes/,
    ],
    [
      'weights of other shapes',
      () => ({
        pretrained_model_name_or_path: spoilt('shapes', (folder) => {
          const file = join(folder, 'text_encoder', 'config.json');
          writeFileSync(
            file,
            readFileSync(file, 'utf8').replace('"intermediate_size": 128', '"intermediate_size": 136'),
          );
        }),
      }),
      /CheckpointError: [\s\S]*misshaped[\s\S]*expected \[136, 32\] but received \[128, 32\]/,
    ],
    [
      'another kind of adapter',
      () => ({ pretrained_ip_adapter_path: join(world.root, 'model', weights) }),
      /CheckpointError: Expected an IP-Adapter/,
    ],
    [
      'a resolution that is not a multiple of 8',
      () => ({ resolution: '60' }),
      /ConfigError: --resolution is 60; it must be a multiple of 8/,
    ],
    [
      'an unknown part to cache',
      () => ({ cache: 'latents,vae' }),
      /ConfigError: --cache.* it must be one of latents, image, text/,
    ],
    [
      'a tracker without a client',
      () => ({ report_to: 'wandb' }),
      /ConfigError: .*--report-to .*"wandb".*@wandb\/sdk/,
    ],
    [
      'text instead of a number',
      () => ({ learning_rate: 'fast' }),
      /ConfigError: .*--learning-rate .*"fast"/,
    ],
    [
      'a required flag left out',
      () => ({ image_encoder_path: undefined }),
      /ConfigError: --image-encoder is required/,
    ],
    ['an unknown flag', () => ({ batchsize: '4' }), /unknown option '--batchsize'[\s\S]*--batch-size/],
    ['a device that is not there', () => ({ device: 'cuda:99' }), /ConfigError: --device cuda:99/],
    [
      'a checkpoint to resume that is not there',
      () => ({ resume: '/nowhere/checkpoint-5' }),
      /CheckpointError: .*\/nowhere\/checkpoint-5/,
    ],
  ];
  it.each(cases)('%s', async (_, changes, message) => {
    const out = join(world.root, 'nothing');
    const { code, err, out: printed } = await start(['train', ...flags({ output_dir: out, ...changes() })]);
    expect(err).toMatch(message);
    expect(err).not.toMatch(/\n {4}at /);
    expect(code).toBe(2);
    expect(printed).toBe('');
    expect(existsSync(out)).toBe(false);
  });

  it('a reader that closes the pipe, as head does, is not an error', async () => {
    const child = spawn(process.execPath, [ipAdapter, 'train', '--help']);
    child.stdout.destroy();
    let err = '';
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect({ code, err }).toEqual({ code: 0, err: '' });
  });

  it.skipIf(!existsSync('/dev/full'))(
    'a result that cannot be written is an error, with its reason',
    async () => {
      const full = openSync('/dev/full', 'w');
      const child = spawn(process.execPath, [ipAdapter, 'train', '--help'], {
        stdio: ['ignore', full, 'pipe'],
      });
      closeSync(full);
      let err = '';
      child.stderr?.on('data', (chunk) => {
        err += chunk;
      });
      const code = await new Promise((resolve) => child.on('close', resolve));
      expect({ code, err }).toEqual({
        code: 2,
        err: expect.stringMatching(/^The result could not .*ENOSPC/),
      });
    },
  );

  it('no command, an unknown one, and help', async () => {
    expect(await start(['sing'])).toMatchObject({
      code: 2,
      err: expect.stringContaining("unknown command 'sing'"),
    });
    expect(await start(['inspect', '/nowhere.safetensors'])).toMatchObject({
      code: 2,
      err: expect.stringContaining('/nowhere.safetensors'),
    });
    const help = await start(['train', '--help']);
    expect(help.code).toBe(0);
    for (const flag of ['--model', '--num-tokens', '--save-steps', '--mixed-precision', '--resume'])
      expect(help.out).toContain(flag);
    // Names of the original and of earlier versions are accepted, and not listed.
    expect(help.out).not.toMatch(/--(pretrained|data-json|train-batch)/);
  });
});
