import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeChecksums } from '../../src/base/checksums.js';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { runProgram } from './command.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const command = join(root, 'dist/cli/main.js');

let world: Adapted;
let flags: string[];
beforeAll(async () => {
  world = await makeAdaptedWorld();
  flags = [
    '--model',
    world.model,
    '--image_encoder',
    world.imageEncoder,
    '--adapter',
    world.bin,
    '--steps',
    '2',
    '--width',
    '64',
    '--height',
    '64',
  ];
});
afterAll(() => world.remove());

const run = (...args: string[]) => runProgram(process.execPath, [command, ...args], { cwd: world.root });
const at = (name: string) => join(world.root, name);

describe('ip-adapter generate', () => {
  it('writes an image with its settings in it, the same bytes each time', async () => {
    const draw = (out: string) =>
      run('generate', ...flags, '--images', world.picture(0), '--prompt', 'a, b', '--out', out);
    const { stdout, stderr, exitCode } = await draw('one.png');
    expect(stderr).toContain('IP-Adapter Plus: 16 image tokens');
    expect(stdout).toBe('one.png');
    expect(exitCode).toBe(0);
    const { width, height, comments } = await sharp(at('one.png')).metadata();
    expect([width, height]).toEqual([64, 64]);
    expect(comments?.[0]?.text).toMatch(/^a, b\nSteps: 2, .*Seed: 0, Size: 64x64, .*IP-Adapter scale: 1/);
    await draw('two.png');
    expect(readFileSync(at('two.png'))).toEqual(readFileSync(at('one.png')));
  });

  it('writes several images, named by their seeds, and a contact sheet', async () => {
    const references = ['--images', world.picture(0), world.picture(3), '--weights', '1', '0.5'];
    const { stdout } = await run(
      'generate',
      ...flags,
      ...references,
      '--seed',
      '5',
      '--num-images',
      '3',
      '--out',
      'many.png',
    );
    expect(stdout.split('\n')).toEqual(['many-5.png', 'many-6.png', 'many-7.png', 'many-sheet.png']);
    const { width, height } = await sharp(at('many-sheet.png')).metadata();
    expect([width, height]).toEqual([128, 128]);
  });

  it('takes embeddings in place of images, without the encoder', async () => {
    const embedded = await run(
      'embed',
      world.picture(0),
      '--image-encoder',
      world.imageEncoder,
      '--out',
      'refs.safetensors',
    );
    expect(embedded.stdout).toBe('refs.safetensors');
    const rest = ['generate', '--adapter', world.adapter, '--model', world.model, ...flags.slice(6)];
    await run(
      ...rest,
      '--image-encoder',
      world.imageEncoder,
      '--images',
      world.picture(0),
      '--out',
      'image.png',
    );
    await run(...rest, '--images', 'refs.safetensors', '--out', 'embedding.png');
    const pixels = (name: string) => sharp(at(name)).raw().toBuffer();
    expect(await pixels('embedding.png')).toEqual(await pixels('image.png'));
  });

  it('takes the names of version 0.1 for its flags, and several adapters from a file', async () => {
    const same = async (...args: string[]) => {
      const { stdout, stderr } = await run('generate', ...flags, ...args, '--out', 'same.png');
      expect(stdout, stderr).toBe('same.png');
      return readFileSync(at('same.png'));
    };
    const now = await same(
      '--images',
      world.picture(0),
      world.picture(1),
      '--weights',
      '1',
      '2',
      '--range',
      '0',
      '0.5',
    );
    const before = [
      '--image',
      world.picture(0),
      world.picture(1),
      '--image_weight',
      '1',
      '2',
      '--end',
      '0.5',
    ];
    expect(now.equals(await same(...before))).toBe(true);
    const both = await run('generate', ...flags, ...before, '--range', '0', '1');
    expect([both.exitCode, both.stderr]).toEqual([
      2,
      expect.stringMatching(/--(end and --range|range and --end) are the same option; give one of them/),
    ]);
    const entry = `{ adapter: ${world.bin}, image_encoder: ${world.imageEncoder} }`;
    writeFileSync(at('two.yaml'), `adapters: [${entry}, ${entry}]\nmodel: ${world.model}\n`);
    const two = await run('generate', '--config', 'two.yaml', ...flags.slice(6), '--out', 'two-adapters.png');
    expect([two.exitCode, two.stdout]).toEqual([0, 'two-adapters.png']);
    expect(two.stderr.match(/IP-Adapter Plus: 16 image tokens/g)).toHaveLength(2);
    const help = await run('generate', '--help');
    expect(help.stdout).toContain('--range <number...>');
    expect(help.stdout).not.toMatch(/--(image|image-weight|start|end|adapters) /);
    expect((await run('--version')).stdout).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it.each([
    [['--steps', 'many'], /--steps is "many"; it must be a whole number/],
    [['--images', 'none.png'], /ENOENT|none.png but the file is missing/],
    [['--weights', '1'], /--weights .* has 1 of them for 0 --images/],
    [['--out', 'image.jpg'], /--out .*must end in .png/],
    [['--out', 'none/image.png'], /folder for --out/],
    [['--threads', '100000000'], /--threads is 100000000; it must be a whole number from 1 to 1,024/],
    [['--width', '100000', '--height', '100000'], /--width is 100000; it must be/],
    [['--sacle', '1'], /unknown option '--sacle'/],
    [['--adapter', 'none.bin'], /none.bin/],
    [['--model', 'none'], /none/],
    [['--width', '60'], /multiple of 8/],
  ])('refuses %j with exit code 2, and writes nothing', async (change, message) => {
    const before = readdirSync(world.root);
    const { stderr, stdout, exitCode } = await run('generate', ...flags, ...change);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(readdirSync(world.root)).toEqual(before);
  });

  it.each([
    [
      'embed',
      ['images/0.png', '--image-encoder', 'image_encoder', '--out', 'none/x.safetensors'],
      /folder for --out/,
    ],
    ['export', ['adapter.bin', 'none/x.bin'], /folder for the target at none /],
    [
      'generate',
      ['--model', 'model', '--adapter', 'x.bin', '--images', 'a.png'],
      /--image-encoder .* is required for --images/,
    ],
  ])('%s says what is missing before it loads anything', async (name, args, message) => {
    const { stderr, exitCode } = await run(name, ...args);
    expect(stderr).toMatch(message);
    expect(exitCode).toBe(2);
  });

  it('takes the output folder of a run as an adapter, and says which checkpoint it took', async () => {
    mkdirSync(at('run'), { recursive: true });
    cpSync(world.checkpoint, at('run/checkpoint-20'), { recursive: true });
    writeChecksums(at('run/checkpoint-20'));
    const took = /run: taking its newest checkpoint that is whole, checkpoint-20/;
    const images = ['--images', world.picture(0)];
    const generated = await run('generate', ...flags, ...images, '--adapter', 'run', '--out', 'run.png');
    expect([generated.exitCode, generated.stderr]).toEqual([0, expect.stringMatching(took)]);
    const inspected = await run('inspect', 'run');
    expect([inspected.exitCode, inspected.stderr]).toEqual([0, expect.stringMatching(took)]);
    const exported = await run('export', 'run', 'from-run.bin');
    expect([exported.exitCode, exported.stderr]).toEqual([0, expect.stringMatching(took)]);
    const none = await run('inspect', 'images');
    expect([none.exitCode, none.stderr]).toEqual([
      2,
      expect.stringMatching(/Expected an adapter in the folder/),
    ]);
  });

  it('names the option of a missing part, and the nearest folder that has it', async () => {
    const encoder = await run('generate', ...flags, '--image-encoder', world.root);
    expect([encoder.exitCode, encoder.stderr]).toEqual([
      2,
      expect.stringMatching(
        new RegExp(`--image-encoder \\(imageEncoder\\) is .*config.json.*; ${world.imageEncoder} has one`),
      ),
    ]);
    const model = await run('generate', ...flags, '--model', at('model/unet'));
    expect([model.exitCode, model.stderr]).toEqual([
      2,
      expect.stringMatching(new RegExp(`--model \\(model\\) is .*; ${world.model} has one`)),
    ]);
  });

  it('warns of a prompt that is too long, with how much has no effect', async () => {
    const prompt = 'a '.repeat(100);
    const { stderr, exitCode } = await run('generate', ...flags, '--prompt', prompt, '--out', 'long.png');
    expect(exitCode).toBe(0);
    expect(stderr).toMatch(/reads 77 tokens, so the last 25 of "a a .*…" have no effect/);
    const short = await run('generate', ...flags, '--prompt', 'a '.repeat(75), '--out', 'long.png');
    expect(short.stderr).not.toContain('too long');
  });

  it('keeps the images that were finished when it is stopped', async () => {
    const args = ['--num-images', '3', '--batch-size', '1', '--steps', '300', '--out', at('kept.png')];
    const first = at('kept-0.png');
    let isSent = false;
    const stopped = await runProgram(process.execPath, [command, 'generate', ...flags, ...args], {
      cwd: world.root,
      onOutput: (text, child) => {
        if (!isSent && text.includes('kept-0.png')) isSent = child.kill('SIGINT');
      },
    });
    expect(stopped.exitCode).toBe(130);
    expect(stopped.stdout).toBe(first);
    expect(stopped.stderr).toContain('1 of 3 images were finished.');
    expect((await sharp(first).metadata()).width).toBe(64);
    expect(readdirSync(world.root).filter((name) => name.startsWith('kept'))).toEqual(['kept-0.png']);
  });

  it.each<[string, string[]]>([
    ['generate', ['--out', 'folder.png']],
    ['generate', ['--num-images', '2', '--seed', '7', '--out', 'seeds.png']],
    ['embed', ['images/0.png', '--image-encoder', 'image_encoder', '--out', 'folder.safetensors']],
    ['evaluate', ['--dataset', 'data.json', '--out', 'folder.png']],
    ['data check', ['--dataset', 'data.json', '--out', 'folder.png']],
    ['export', ['adapter.bin', 'folder.safetensors', '--force']],
  ])('%s %j says that a target is a folder before it loads anything', async (name, args) => {
    for (const folder of ['folder.png', 'seeds-8.png', 'folder.safetensors'])
      mkdirSync(at(folder), { recursive: true });
    const common = name === 'generate' || name === 'evaluate' ? flags : [];
    const { stderr, stdout, exitCode } = await run(...name.split(' '), ...common, ...args);
    expect([exitCode, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/is (folder|seeds-8)\.\w+, which is a folder; it must be the name of a file$/);
  });

  const least = '--steps 1 --width 8 --height 8 --scale 0 --guidance-scale 0 --range 0.5 0.5 --batch-size 1';
  const most =
    '--steps 20 --width 8 --height 8 --scale 10000 --guidance-scale 10000 --batch-size 1000000000 --weights 1000000000';
  it.each<[string, number, RegExp[]]>([
    [`--seed ${2 ** 52} --num-images 2`, 0, []],
    [`${least} --scheduler ddim`, 0, []],
    [`${most} --scheduler ddim`, 0, []],
    ['--steps 1001', 2, [/1000 timesteps/]],
    [
      `--seed ${2 ** 52 + 1} --steps 0 --width 8200 --height 0 --num-images 10001 --batch-size 0 --guidance-scale -1`,
      2,
      [
        /--seed is 4503599627370497/,
        /--steps is 0/,
        /--width is 8200/,
        /--height is 0/,
        /--num-images is 10001/,
      ],
    ],
  ])('takes or refuses %s with exit code %i, without a stack trace', async (args, code, messages) => {
    const all = [...flags, '--images', world.picture(0), ...args.split(' '), '--out', 'limit.png'];
    const { stderr, exitCode } = await run('generate', ...all);
    expect(stderr).not.toMatch(/\n {4}at /);
    expect(exitCode, stderr).toBe(code);
    for (const message of messages) expect(stderr).toMatch(message);
  });

  it('ends with 130 on Ctrl-C, without an image', async () => {
    const args = [command, 'generate', ...flags, '--steps', '900', '--out', at('never.png')];
    let isStopped = false;
    const { exitCode } = await runProgram(process.execPath, args, {
      cwd: world.root,
      onError: (text, child) => {
        if (isStopped || !/^On c/m.test(text)) return;
        isStopped = true;
        setTimeout(() => child.kill('SIGINT'), 300);
      },
    });
    expect(exitCode).toBe(130);
    expect(existsSync(at('never.png'))).toBe(false);
  });
});

describe('ip-adapter evaluate', () => {
  const data = () => [
    '--data-json-file',
    at('data.json'),
    '--data-root-path',
    at('images'),
    '--max-rows',
    '3',
  ];

  it('prints a table and writes the same as JSON', async () => {
    const { stdout, exitCode } = await run(
      'evaluate',
      ...flags,
      ...data(),
      '--scales',
      '0',
      '0.5',
      '--out',
      'scores.json',
    );
    expect(exitCode).toBe(0);
    const { scores, rows } = JSON.parse(readFileSync(at('scores.json'), 'utf8'));
    expect(rows).toBe(3);
    expect(scores.map(({ scale }: { scale: number }) => scale)).toEqual([0, 0.5]);
    const lines = stdout.split('\n');
    expect(lines[0]).toMatch(/scale +CLIP-I +to others +CLIP-T +CLIPScore +retrieval top-1/);
    expect(lines[1]).toContain(`0 (no adapter)          ${scores[0].clipI.toFixed(4)}`);
    expect(stdout).toContain('chance of retrieval 33.3 %');
    expect(stdout).toContain('CLIP-T is left out');
    expect(lines.at(-1)).toBe('scores.json');
  });

  it('refuses bad input with exit code 2, and writes nothing', async () => {
    const { stderr, exitCode } = await run(
      'evaluate',
      ...flags,
      ...data(),
      '--scales',
      'x',
      '--out',
      'bad.json',
    );
    expect(stderr).toMatch(/--scale/);
    expect(exitCode).toBe(2);
    expect(existsSync(at('bad.json'))).toBe(false);
  });
});

describe('the library', () => {
  it('is imported by the name of the package', async () => {
    const code = "import * as library from 'ip-adapter'; console.log(Object.keys(library).sort().join())";
    const { stdout } = await runProgram(process.execPath, ['--input-type=module', '-e', code], { cwd: root });
    expect(stdout.split(',')).toEqual(
      expect.arrayContaining(['ConfigError', 'IPAdapterPipeline', 'embed', 'evaluate', 'train']),
    );
  });

  it('trains in the example, and resumes there', async () => {
    const args = [join(root, 'examples/train.ts'), world.model, world.imageEncoder];
    const runExample = (dataset: string) =>
      runProgram(join(root, 'node_modules/.bin/tsx'), [...args, dataset, at('example')], { cwd: root });
    writeFileSync(at('images/data.json'), readFileSync(at('data.json')));
    const first = await runExample(at('images/data.json'));
    expect(first.stderr).toMatch(/step 4: loss \d\.\d{4}$/m);
    expect([first.exitCode, first.stdout]).toEqual([0, `4 steps: ${at('example/checkpoint-4')}`]);
    expect((await runExample(at('images/data.json'))).stderr).toContain('Nothing is left to do');
    const wrong = await runExample('none.json');
    expect([wrong.exitCode, wrong.stderr]).toEqual([2, expect.stringContaining('none.json')]);
  });

  it('generates an image in the example, and prints nothing', async () => {
    const example = join(root, 'examples/generate.ts');
    expect(readFileSync(example, 'utf8').trimEnd().split('\n').length).toBeLessThanOrEqual(20);
    const args = [
      example,
      world.model,
      world.imageEncoder,
      world.adapter,
      world.picture(0),
      at('example.png'),
    ];
    const { stdout, stderr } = await runProgram(join(root, 'node_modules/.bin/tsx'), args, { cwd: root });
    expect(stderr).toMatch(/21\/21$/);
    expect(stdout).toBe('');
    expect((await sharp(at('example.png')).metadata()).format).toBe('png');
  });
});
