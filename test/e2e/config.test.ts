import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { runProgram } from './command.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const command = join(root, 'dist/cli/ip-adapter.cjs');

let world: Adapted;
/** The world's flags, by their names. */
let options: Record<string, string | number>;
beforeAll(async () => {
  world = await makeAdaptedWorld();
  options = {
    model: 'model',
    image_encoder: 'image_encoder',
    dataset: 'data.json',
    dataset_root: 'images',
    resolution: 64,
    batch_size: 3,
    max_steps: 4,
  };
});
afterAll(() => world.remove());

const run = (...args: string[]) => runProgram(process.execPath, [command, ...args], { cwd: world.root });
const at = (...names: string[]) => join(world.root, ...names);
const write = (name: string, content: string | object): string => {
  writeFileSync(at(name), typeof content === 'string' ? content : stringify(content));
  return name;
};
const sameBytes = (a: string, b: string) => {
  for (const file of ['ip_adapter.safetensors', 'optimizer.safetensors'])
    expect(readFileSync(at(a, 'checkpoint-4', file)).equals(readFileSync(at(b, 'checkpoint-4', file)))).toBe(
      true,
    );
};

describe('ip-adapter train --config', { timeout: 240_000 }, () => {
  it('trains from a file, flags win, and the options that it keeps repeat the run to the byte', async () => {
    const switches = { random_flip: true, use_ema: true };
    const given = { ...options, ...switches, seed: 7, output_dir: 'from file', cache: 'latents,text' };
    const file = write('run.yaml', given);
    const flags = ['--output_dir', 'first', '--save_steps=2', '--no-use-ema'];
    const first = await run('train', '--config', file, ...flags);
    expect(first.stderr).toContain('step 4/4');
    expect(first.stdout).toBe(join('first', 'checkpoint-4'));
    expect(existsSync(at('from file'))).toBe(false);

    const kept = parse(readFileSync(at('first', 'config.yaml'), 'utf8'));
    expect(kept).toMatchObject({
      ...options,
      dataset: ['data.json'],
      seed: 7,
      save_steps: 2,
      output_dir: 'first',
      num_tokens: 16,
    });
    expect(kept).toMatchObject({ random_flip: true, use_ema: false });
    // What has no effect beside these is not there.
    for (const name of ['epochs', 'ema_decay', 'lr_power', 'validation_steps'])
      expect(kept).not.toHaveProperty(name);
    expect(kept).toMatchObject({ learning_rate: 1e-4, mixed_precision: 'no', cache: ['latents', 'text'] });
    const second = await run('train', '--config', join('first', 'config.yaml'), '--output-dir', 'second');
    expect(second.exitCode).toBe(0);
    sameBytes('first', 'second');
    const again = parse(readFileSync(at('second', 'config.yaml'), 'utf8'));
    expect(again).toEqual({ ...kept, output_dir: 'second' });
  });

  it('keeps the options of a resumed run, and repeated it starts afresh', async () => {
    const file = write('resumed.yaml', { ...options, output_dir: 'resumed', max_steps: 2 });
    expect((await run('train', '--config', file)).exitCode).toBe(0);
    const resumed = await run('train', '--config', file, '--resume', '--max-steps', '4');
    expect(resumed.stderr).toContain('from step 2');
    const kept = parse(readFileSync(at('resumed', 'config.yaml'), 'utf8'));
    expect(kept.max_steps).toBe(4);
    expect(kept).not.toHaveProperty('resume');
    const repeated = await run('train', '--config', join('resumed', 'config.yaml'), '--output-dir', 'afresh');
    expect(repeated.exitCode).toBe(0);
    sameBytes('resumed', 'afresh');
  });

  it.each([
    [
      'an unknown name',
      { lerning_rate: 1 },
      /^ConfigError: Unknown option lerning_rate in bad\.yaml:\d+:1; did you mean learning_rate\?$/m,
    ],
    ['a wrong value', { resolution: 60 }, /resolution in bad\.yaml:5:13 is 60; it must be a multiple of 8/],
  ])('refuses %s with its place, and writes nothing', async (_, change, message) => {
    const file = write('bad.yaml', { ...options, output_dir: 'nothing', ...change });
    const { exitCode, stderr } = await run('train', '--config', file);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect(exitCode).toBe(2);
    expect(existsSync(at('nothing'))).toBe(false);
  });

  it('a flag in place of a wrong value of the file is what counts, and what is named', async () => {
    const file = write('bad.yaml', { ...options, resolution: 60, output_dir: 'nothing' });
    const { stderr } = await run('train', '--config', file, '--resolution', '61');
    expect(stderr).toMatch(/--resolution is 61; it must be a multiple of 8/);
  });

  it('suggests the flag that was meant, with underscores too', async () => {
    const { stderr, exitCode } = await run('train', '--lerning_rate', '1');
    expect(stderr).toMatch(/unknown option '--lerning-rate'\s+\(Did you mean --learning-rate\?\)/);
    expect(exitCode).toBe(2);
  });
});

describe('names of earlier versions and of the original', { timeout: 240_000 }, () => {
  it('in a file they mean the same, and flags by either name win', async () => {
    const { max_steps, model, image_encoder, dataset, dataset_root, batch_size, ...rest } = options;
    const file = write('old.yaml', {
      ...rest,
      ...{ pretrained_model_name_or_path: model, image_encoder_path: image_encoder, max_train_steps: 9 },
      ...{ data_json_file: dataset, data_root_path: dataset_root, train_batch_size: batch_size },
    });
    const old = await run('train', '--config', file, '--max-steps', '4', '--output-dir', 'old');
    expect(old.stdout, old.stderr).toBe(join('old', 'checkpoint-4'));
    await run('train', '--config', write('new.yaml', options), '--output-dir', 'new');
    sameBytes('old', 'new');
  });

  it('a wrong value is named as it is written', async () => {
    const file = write('old.yaml', { ...options, batch_size: undefined, train_batch_size: 0 });
    const { stderr } = await run('train', '--config', file);
    expect(stderr).toMatch(
      /^ConfigError: train_batch_size in old\.yaml:\d+:19 is 0; it must be a whole number/,
    );
    const both = await run('train', '--config', file, '--batch-size', '1', '--train_batch_size', '2');
    expect(both.stderr).toMatch(
      /--train-batch-size and --batch-size are the same option|--batch-size and --train-batch-size are the same option/,
    );
  });
});

describe('--config of the other commands', { timeout: 240_000 }, () => {
  it('generates the same image as the flags do', async () => {
    const drawing = { model: world.model, image_encoder: world.imageEncoder, adapter: world.adapter };
    const size = { steps: 2, width: 64, height: 64, seed: 3 };
    const file = write('draw.json', JSON.stringify({ ...drawing, ...size, images: [world.picture(0)] }));
    const flags = Object.entries({ ...drawing, ...size }).flatMap(([name, value]) => [
      `--${name}`,
      `${value}`,
    ]);
    const fromFile = await run('generate', '--config', file, '--out', 'file.png');
    expect(fromFile.stderr).not.toContain('No --images');
    expect(fromFile.exitCode).toBe(0);
    await run('generate', ...flags, '--images', world.picture(0), '--out', 'flags.png');
    expect(readFileSync(at('file.png')).equals(readFileSync(at('flags.png')))).toBe(true);
  });

  it('evaluates, and embeds', async () => {
    const pipeline = { model: world.model, image_encoder: world.imageEncoder, adapter: world.adapter };
    const rows = { dataset: 'data.json', dataset_root: 'images', max_rows: 2 };
    const drawing = { steps: 1, width: 64, height: 64, scales: [0.5] };
    const file = write('evaluate.yaml', { ...pipeline, ...rows, ...drawing, out: 'scores.json' });
    expect((await run('evaluate', '--config', file)).exitCode).toBe(0);
    const { scores, options: used } = JSON.parse(readFileSync(at('scores.json'), 'utf8'));
    expect([scores.length, scores[0].scale, used.maxRows]).toEqual([1, 0.5, 2]);
    const embed = write('embed.yaml', { image_encoder: world.imageEncoder, out: 'embedded.safetensors' });
    expect((await run('embed', world.picture(0), '--config', embed)).stdout).toBe('embedded.safetensors');
  });

  it('checks a dataset', async () => {
    const file = write('check.yaml', {
      dataset: 'data.json',
      dataset_root: 'images',
      resolution: 64,
    });
    const flags = ['--dataset', 'data.json', '--dataset-root', 'images', '--resolution', '64'];
    const check = async (...args: string[]) =>
      // The speed of reading differs each time.
      (await run('data', 'check', ...args)).stdout.replace(/^.*rows\/s.*$/m, '');
    const fromFile = await check('--config', file);
    expect(fromFile).toMatch(/captions +8, empty 0/);
    expect(fromFile).toBe(await check(...flags));
    const { exitCode, stderr } = await run('data', 'check', '--config', file, '--resolution', '60');
    expect(stderr).toContain('multiple of 8');
    expect(exitCode).toBe(2);
  });
});
