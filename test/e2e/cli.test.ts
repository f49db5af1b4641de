import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { cellOrigin } from '../../src/images/labelled-sheet.js';
import { readRun } from '../read-events.js';
import { start } from './command.js';
import { flagsOf, makeWorld, type World } from './world.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());
const flags = (changes: Record<string, string | undefined>): string[] => flagsOf(world, changes);

/** The size of what is generated here. */
const square = { width: 64, height: 64 };

describe('ip-adapter train', () => {
  it('trains with the flags of the original, written either way, and its adapter is what inspect and export read', async () => {
    const out = join(world.root, 'either');
    const args = ['train', ...flags({ output_dir: undefined, train_batch_size: undefined })];
    const {
      code,
      err,
      out: printed,
    } = await start([
      ...args,
      '--output-dir',
      out,
      '--train_batch_size=2',
      '--max-steps',
      '3',
      '--local_rank',
      '0',
    ]);
    expect(err).toContain('--local-rank has no effect');
    expect(err).toContain(
      'ComfyUI (ComfyUI_IPAdapter_plus) cannot load this adapter: it expects 12 attention',
    );
    expect(err).toMatch(/step 3\/3 {2}loss \d\.\d{4} {2}lr 1\.00e-4 {2}[\d.]+ images\/s {2}0:00 left/);
    expect(code).toBe(0);
    expect(printed.trim()).toBe(join(out, 'checkpoint-3'));
    for (const next of ['generate ', 'evaluate ', 'export ', 'pipe.load_ip_adapter'])
      expect(err).toMatch(new RegExp(`\\n +\\w* +.*${next}.*${join(out, 'checkpoint-3')}`));
    expect(readdirSync(join(out, 'checkpoint-3')).sort()).toEqual([
      'SHA256SUMS',
      'ip_adapter.safetensors',
      'optimizer.safetensors',
      'training_state.json',
    ]);

    const inspected = await start(['inspect', join(out, 'checkpoint-3')]);
    expect(inspected.out).toMatch(
      /IP-Adapter Plus[\s\S]*image tokens +16[\s\S]*ip_adapter\.19\.to_v_ip\.weight +float32 +\[24, 32\]/,
    );
    const bin = join(world.root, 'exported.bin');
    expect(await start(['export', join(out, 'checkpoint-3'), bin])).toMatchObject({ code: 0 });
    expect((await start(['inspect', bin])).out.split('\n').slice(0, 6)).toEqual(
      inspected.out.split('\n').slice(0, 6),
    );
    const again = await start(['export', join(out, 'checkpoint-3'), bin]);
    expect([again.code, again.err]).toEqual([2, expect.stringContaining('--force')]);
    const misnamed = await start(['export', join(out, 'checkpoint-3'), join(world.root, 'PlusV2.bin')]);
    expect([misnamed.code, misnamed.err]).toEqual([2, expect.stringContaining("'plusv2' in its name")]);
  });

  it('generates validation images, and logs numbers', async () => {
    const out = join(world.root, 'watched');
    const references = ['0.png', '4.png'].map((name) => join(world.root, 'images', name));
    const { code, err } = await start([
      'train',
      ...flags({ output_dir: out, report_to: 'tensorboard', logging_dir: 'events' }),
      ...['--max-steps', '3', '--save-steps', '2'],
      ...['--validation_images', ...references, '--validation-prompts', 'a b'],
      ...['--validation_steps', '2', '--num_validation_images', '1', '--validation-scale', '0.8'],
      ...['--validation-sampling-steps', '2'],
    ]);
    expect(err).toMatch(/Drew .*step-2\.png[\s\S]*Drew .*step-3\.png/);
    expect(code).toBe(0);

    const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
    const steps = lines.filter((line) => JSON.parse(line).type === 'step');
    expect(lines.length - steps.length).toBe(2);
    const told = steps.map((line): Record<string, number> => JSON.parse(line));
    expect(told.map((line) => [line.step, line['lr/ip_adapter']])).toEqual(
      [1, 2, 3].map((step) => [step, 1e-4]),
    );
    expect(told.every(({ grad_norm }) => (grad_norm ?? 0) > 0)).toBe(true);
    expect(told[2]?.['speed/images_per_second']).toBeGreaterThan(0);
    expect(told[2]?.['memory/cpu_peak_bytes']).toBeGreaterThan(0);
    const events = readRun(join(out, 'events'));
    for (const { step, loss } of told)
      expect(events.find((event) => event.step === step)?.scalars.loss).toBe(loss);

    const drawn = events.flatMap(({ step, images: { validation } }) =>
      validation === undefined ? [] : [[step, validation.png] as const],
    );
    expect(drawn.map(([step]) => step)).toEqual([2, 3]);
    for (const [step, png] of drawn) {
      const file = join(out, 'validation', `step-${step}.png`);
      expect(readFileSync(file).equals(png)).toBe(true);
      // Two prompts, each beside the text alone and its image.
      const height = cellOrigin(square, 1, 0).top + square.height;
      expect(await sharp(file).metadata()).toMatchObject({ format: 'png', width: 192, height });
    }

    // generate makes the same image from the checkpoint of that step.
    const again = join(world.root, 'again.png');
    const generated = await start([
      ...['generate', '--model', join(world.root, 'model'), '--adapter', join(out, 'checkpoint-2')],
      ...['--dtype', 'float32'],
      ...['--image-encoder', join(world.root, 'image_encoder'), '--images', references[1] as string],
      ...[
        '--prompt',
        'a b',
        '--scale',
        '0.8',
        '--steps',
        '2',
        '--width',
        '64',
        '--height',
        '64',
        '--out',
        again,
      ],
    ]);
    expect(generated.code).toBe(0);
    const cell = { ...cellOrigin(square, 1, 2), ...square };
    const sheet = join(out, 'validation', 'step-2.png');
    expect(await sharp(sheet).extract(cell).raw().toBuffer()).toEqual(await sharp(again).raw().toBuffer());
  });

  it('keeps a moving average, trains in micro-batches by a schedule, and exports the average', async () => {
    const out = join(world.root, 'averaged');
    const args = ['train', ...flags({ output_dir: out, train_batch_size: '2' })];
    const options = ['--gradient_accumulation_steps=2', '--max_grad_norm=1', '--lr_scheduler=cosine'];
    const { code, err } = await start([
      ...[...args, ...options, '--lr_warmup_steps=1', '--use_ema', '--snr_gamma=5', '--scale_lr'],
      ...['--max-steps', '2'],
    ]);
    expect([code, err]).toEqual([
      0,
      expect.stringContaining('Learning rate: cosine, 1 warm-up steps, over 2 steps'),
    ]);
    const average = join(out, 'checkpoint-2', 'ip_adapter_ema.safetensors');
    const bin = join(world.root, 'averaged.bin');
    expect(await start(['export', average, bin])).toMatchObject({ code: 0 });
    const inspected = (await start(['inspect', bin])).out;
    expect(inspected).toMatch(/IP-Adapter Plus[\s\S]*ip_adapter\.19\.to_v_ip\.weight +float32 +\[24, 32\]/);
    const wrong = await start([...args, '--resume', '--ema_decay', '2']);
    expect([wrong.code, wrong.err]).toEqual([
      2,
      expect.stringMatching(/--ema-decay is 2; it must be below 1/),
    ]);
  });

  it('dry, it reports what the run needs, writes nothing, and fails as the run does', async () => {
    const out = join(world.root, 'dry', 'deep');
    const args = [
      'train',
      ...flags({ output_dir: out }),
      '--num_train_epochs',
      '4',
      '--device',
      'cpu',
      '--dry_run',
    ];
    const { code, out: printed, err } = await start([...args, '--cache', 'text']);
    expect([code, err]).toEqual([0, expect.stringContaining('UNet2DConditionModel')]);
    expect(printed).toMatch(
      /Two steps were run[\s\S]*\nVAE +[\d.]+ [KM]iB +– [\s\S]*\nadapter +– +[\d.]+ KiB +– +–\n[\s\S]*\nstep [\s\S]*\ntext encoder .* 9 /,
    );
    expect(printed).toMatch(/\nlosses +\d\.\d{4}, \d\.\d{4}\n[\s\S]*\nsteps +12 in all; 12 left\ntime /);
    expect(existsSync(join(world.root, 'dry'))).toBe(false);

    const faulty = await start([...args, '--image-encoder-path', join(world.root, 'model', 'vae')]);
    const real = await start([
      ...args.slice(0, -1),
      '--image-encoder-path',
      join(world.root, 'model', 'vae'),
    ]);
    expect(faulty).toEqual({ ...real, code: 2 });
  });
});
