import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { type PresetName, presetNames, presets } from '../../src/options/presets.js';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { ipAdapter, runProgram } from './command.js';

let world: Adapted;
beforeAll(async () => {
  world = await makeAdaptedWorld();
});
afterAll(() => world.remove());

const train = (...flags: string[]) => {
  const models = ['--model', 'model', '--image-encoder', 'image_encoder'];
  const data = ['--dataset', 'data.json', '--dataset-root', 'images', '--resolution', '64'];
  return runProgram(process.execPath, [ipAdapter, 'train', ...models, ...data, ...flags], {
    cwd: world.root,
  });
};
const small = ['--max-steps', '2', '--batch-size', '2'];
const split = (name: PresetName) => ('validationSplit' in presets[name] ? ['--validation-split', '2'] : []);

describe('ip-adapter train --preset', { timeout: 240_000 }, () => {
  it.each(presetNames)('%s trains two steps, and shows what it sets; flags win', async (name) => {
    const flags = ['--preset', name, ...small, ...split(name), '--adapter', 'adapter.safetensors'];
    const { stderr, stdout, exitCode } = await train(...flags, '--output-dir', name);
    expect(exitCode, stderr).toBe(0);
    expect(stdout).toBe(join(name, 'checkpoint-2'));
    expect(existsSync(join(world.root, name, 'checkpoint-2', 'ip_adapter.safetensors'))).toBe(true);
    const shown = new RegExp(`--preset ${name} sets .*--learning-rate .*--checkpoint-content adapter`);
    expect(stderr).toMatch(shown);
    expect(stderr).toMatch(/your options override --max-steps \d+ --batch-size \d/);
    expect(stderr).toContain('step 2/2');
  });

  it('an option file wins too, and epochs in place of steps; --cache none turns the cache off', async () => {
    const file = { preset: 'small', epochs: 1, train_batch_size: 4, cache: 'latents', use_ema: true };
    const rows = [0, 1, 2].map((i) => ({ image_file: `images/${i}.png`, text: 'a photo' }));
    writeFileSync(join(world.root, 'held-out.json'), JSON.stringify(rows));
    const options = { ...file, validation_dataset: 'held-out.json' };
    writeFileSync(join(world.root, 'preset.yaml'), stringify(options));
    const flags = ['--config', 'preset.yaml', '--cache', 'none', '--no-buckets', '--output-dir', 'file'];
    const { stderr, exitCode } = await train(...flags);
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toMatch(
      /--preset small sets --learning-rate 0\.00005 .*; your options override --max-steps 4000 --batch-size 8 --buckets --cache latents,text,image --validation-split 32$/m,
    );
    expect(stderr).toContain('step 2/2');
    const used = parse(readFileSync(join(world.root, 'file', 'config.yaml'), 'utf8'));
    const expected = { epochs: 1, batch_size: 4, cache: [], use_ema: true, learning_rate: 5e-5 };
    expect(used).toMatchObject({ ...expected, lr_scheduler: 'cosine', checkpoints_total_limit: 8 });
    expect(existsSync(join(world.root, 'file', 'cache'))).toBe(false);
  });

  it('fine-tune needs an adapter, and an unknown preset is named', async () => {
    const none = await train('--preset', 'fine-tune', '--output-dir', 'none');
    expect([none.exitCode, none.stderr]).toEqual([2, expect.stringContaining('give --adapter, such as')]);
    const wrong = await train('--preset', 'smal', '--output-dir', 'none');
    expect([wrong.exitCode, wrong.stderr]).toEqual([2, expect.stringMatching(/--preset.*smal/)]);
    expect(existsSync(join(world.root, 'none'))).toBe(false);
  });
});
