import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  cpSync,
  existsSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readRun } from '../read-events.js';
import { makeWorld, type World } from './world.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const command = join(root, 'dist', 'cli', 'main.js');

interface Ended {
  code: number | null;
  signal: string | null;
  out: string;
  err: string;
}

/** Starts the built command, as a user's shell does. `onError` sees what it writes as it comes. */
function start(args: string[], onError?: (text: string, child: ChildProcess) => void): Promise<Ended> {
  const child = spawn(process.execPath, [command, ...args]);
  let out = '';
  let err = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    err += chunk;
    onError?.(err, child);
  });
  return new Promise((resolve) => child.on('close', (code, signal) => resolve({ code, signal, out, err })));
}

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

/** The world's flags with some replaced; undefined takes a flag away. */
function flags(changes: Record<string, string | undefined>): string[] {
  const pairs = new Map<string, string | undefined>();
  for (let i = 0; i < world.flags.length; i += 2)
    pairs.set((world.flags[i] as string).slice(2), world.flags[i + 1]);
  for (const [name, value] of Object.entries(changes)) pairs.set(name, value);
  return [...pairs].flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]));
}

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
    expect(err).toContain('ComfyUI (ComfyUI_IPAdapter_plus) cannot load this adapter: it expects 12 attention');
    expect(err).toMatch(/step 3\/3 {2}loss \d\.\d{4} {2}lr 1\.00e-4 {2}[\d.]+ images\/s {2}0:00 left/);
    expect(code).toBe(0);
    expect(printed.trim()).toBe(join(out, 'checkpoint-3'));
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

  it('draws as it goes, and leaves pictures and numbers to be read', async () => {
    const out = join(world.root, 'watched');
    const pictures = ['0.png', '4.png'].map((name) => join(world.root, 'images', name));
    const { code, err } = await start([
      'train',
      ...flags({ output_dir: out, report_to: 'tensorboard', logging_dir: 'events' }),
      ...['--max-steps', '3', '--save-steps', '2'],
      ...['--validation_images', ...pictures, '--validation-prompts', 'a b'],
      ...['--validation_steps', '2', '--num_validation_images', '1', '--validation-scale', '0.8'],
      ...['--validation-sampling-steps', '2'],
    ]);
    expect(err).toMatch(/Drew .*step-2\.png[\s\S]*Drew .*step-3\.png/);
    expect(code).toBe(0);

    const lines = readFileSync(join(out, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
    const told = lines.map((line): Record<string, number> => JSON.parse(line));
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
      // Two prompts, each beside its drawing.
      expect(await sharp(file).metadata()).toMatchObject({ format: 'png', width: 128, height: 128 });
    }

    // The same picture by the other command, from the checkpoint of that step.
    const again = join(world.root, 'again.png');
    const generated = await start([
      ...['generate', '--model', join(world.root, 'model'), '--adapter', join(out, 'checkpoint-2')],
      ...['--dtype', 'float32'],
      ...['--image-encoder', join(world.root, 'image_encoder'), '--images', pictures[1] as string],
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
    const cell = { left: 64, top: 64, width: 64, height: 64 };
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

  it('dry, it tells what the run takes, writes nothing, and fails as the run does', async () => {
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

  it('killed and resumed, it ends as if it had not been killed, to the bit', async () => {
    const run = (name: string): string[] => [
      'train',
      ...flags({ output_dir: join(world.root, name) }),
      '--max-steps',
      '20',
      '--save-steps',
      '10',
    ];
    const whole = await start(run('whole'));
    expect(whole.code).toBe(0);
    const killed = await start(run('killed'), (text, child) => {
      if (text.includes('checkpoint-10')) child.kill('SIGKILL');
    });
    expect(killed.signal).toBe('SIGKILL');
    // A kill leaves either no trace of the step under way, or a half-written folder under another name.
    expect(existsSync(join(world.root, 'killed', 'checkpoint-10'))).toBe(true);
    rmSync(join(world.root, 'killed', 'checkpoint-20'), { recursive: true, force: true });
    const resumed = await start([...run('killed'), '--resume']);
    expect(resumed.err).toContain('from step 10');
    for (const file of ['ip_adapter.safetensors', 'optimizer.safetensors']) {
      const [a, b] = ['whole', 'killed'].map((name) =>
        readFileSync(join(world.root, name, 'checkpoint-20', file)),
      ) as [Buffer, Buffer];
      expect(Buffer.compare(a, b)).toBe(0);
    }
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)(
    '%s ends the step, writes a checkpoint and says how to resume, with exit code %d',
    async (name, exitCode) => {
      const out = join(world.root, name);
      let sent = false;
      const { code, err } = await start(
        ['train', ...flags({ output_dir: out }), '--save-steps', '2', '--epochs', '100000'],
        (text, child) => {
          if (!sent && text.includes('checkpoint-2')) sent = child.kill(name);
        },
      );
      expect(code).toBe(exitCode);
      const step = Number(/Stopped after step (\d+)\. .*--resume \S+checkpoint-\1\n/.exec(err)?.[1]);
      expect(existsSync(join(out, `checkpoint-${step}`, 'ip_adapter.safetensors'))).toBe(true);
      const resumed = await start([
        'train',
        ...flags({ output_dir: out }),
        '--max-steps',
        String(step + 1),
        '--resume',
      ]);
      expect(resumed.out.trim()).toBe(join(out, `checkpoint-${step + 1}`));
    },
  );

  it('keeps what it encoded: killed while it fills the cache it goes on, and the next run encodes nothing', async () => {
    const run = (name: string): string[] => [
      'train',
      ...flags({ output_dir: join(world.root, name), cache_dir: join(world.root, 'cache') }),
      '--cache',
      'latents,text,image',
      '--max-steps',
      '2',
    ];
    const killed = await start(run('cached'), (text, child) => {
      if (text.includes('Cache of image: 8 to encode')) child.kill('SIGKILL');
    });
    expect(killed.signal).toBe('SIGKILL');
    const again = await start(run('cached'));
    expect(again.err).toMatch(
      /latents: complete, 0 newly[\s\S]*image: complete, 9 newly[\s\S]*text: complete, 9/,
    );
    expect(again.out.trim()).toBe(join(world.root, 'cached', 'checkpoint-2'));
    const other = await start(run('cached too'));
    expect(other.err).toMatch(
      /latents: complete, 0 newly[\s\S]*image: complete, 0 newly[\s\S]*text: complete, 0/,
    );
    for (const file of ['ip_adapter.safetensors', 'optimizer.safetensors']) {
      const [a, b] = ['cached', 'cached too'].map((name) =>
        readFileSync(join(world.root, name, 'checkpoint-2', file)),
      ) as [Buffer, Buffer];
      expect(Buffer.compare(a, b)).toBe(0);
    }
  });

  it('skips a corrupt picture, counts it and names it', async () => {
    const own = await makeWorld(6);
    try {
      truncateSync(join(own.root, 'images', '2.png'), 60);
      const { code, err } = await start(['train', ...own.flags, '--epochs', '1']);
      expect(code).toBe(0);
      expect(err).toMatch(/Skipped .*2\.png: it is damaged/);
      expect(err).toContain('1 row was skipped');
    } finally {
      own.remove();
    }
  });
});

describe('bad input: its own words, exit code 2, nothing written', () => {
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
          const file = join(folder, 'unet', 'config.json');
          writeFileSync(
            file,
            readFileSync(file, 'utf8').replace('"cross_attention_dim": 32', '"cross_attention_dim": 40'),
          );
        }),
      }),
      /CheckpointError: [\s\S]*misshaped[\s\S]*expected \[16, 40\] but received \[16, 32\]/,
    ],
    [
      'another variant of adapter',
      () => ({ pretrained_ip_adapter_path: join(world.root, 'model', weights) }),
      /CheckpointError: Expected an IP-Adapter/,
    ],
    [
      'a resolution that is no multiple of 8',
      () => ({ resolution: '60' }),
      /ConfigError: --resolution is 60; it must be a multiple of 8/,
    ],
    [
      'a part to cache that is none',
      () => ({ cache: 'latents,vae' }),
      /ConfigError: --cache.* it must be one of latents, image, text/,
    ],
    [
      'a tracker that has no client',
      () => ({ report_to: 'wandb' }),
      /ConfigError: .*--report-to .*"wandb".*@wandb\/sdk/,
    ],
    ['a number that is none', () => ({ learning_rate: 'fast' }), /ConfigError: .*--learning-rate .*"fast"/],
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

  it('a reader that goes away, as head does, is no fault', async () => {
    const child = spawn(process.execPath, [command, 'train', '--help']);
    child.stdout.destroy();
    let err = '';
    child.stderr.on('data', (chunk) => {
      err += chunk;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect({ code, err }).toEqual({ code: 0, err: '' });
  });

  it.skipIf(!existsSync('/dev/full'))('a result that cannot be written is one, and says so', async () => {
    const full = openSync('/dev/full', 'w');
    const child = spawn(process.execPath, [command, 'train', '--help'], { stdio: ['ignore', full, 'pipe'] });
    closeSync(full);
    let err = '';
    child.stderr?.on('data', (chunk) => {
      err += chunk;
    });
    const code = await new Promise((resolve) => child.on('close', resolve));
    expect({ code, err }).toEqual({ code: 2, err: expect.stringMatching(/^The result could not .*ENOSPC/) });
  });

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
    // Names of the original and of earlier versions are taken, and not listed.
    expect(help.out).not.toMatch(/--(pretrained|data-json|train-batch)/);
  });
});
