import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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
  it('writes a picture with its settings in it, the same bytes each time', async () => {
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

  it('writes several pictures, named by their seeds, and a contact sheet', async () => {
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

  it('takes embeddings in place of pictures, without the encoder', async () => {
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
      'picture.png',
    );
    await run(...rest, '--images', 'refs.safetensors', '--out', 'embedding.png');
    const pixels = (name: string) => sharp(at(name)).raw().toBuffer();
    expect(await pixels('embedding.png')).toEqual(await pixels('picture.png'));
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
    const two = await run('generate', '--config', 'two.yaml');
    expect([two.exitCode, two.stderr]).toEqual([2, expect.stringContaining('adapters has 2 entries')]);
    const help = await run('generate', '--help');
    expect(help.stdout).toContain('--range <number...>');
    expect(help.stdout).not.toMatch(/--(image|image-weight|start|end|adapters) /);
    expect((await run('--version')).stdout).toMatch(/^\d+\.\d+\.\d+$/);
  });

  it.each([
    [['--steps', 'many'], /--steps is "many"; it must be a whole number/],
    [['--images', 'none.png'], /ENOENT|none.png but the file is missing/],
    [['--weights', '1'], /--weights .* has 1 values for 0 --images/],
    [['--out', 'picture.jpg'], /--out .*must end in .png/],
    [['--out', 'none/picture.png'], /folder for --out/],
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

  it('ends with 130 on Ctrl-C, without a picture', async () => {
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

  it('draws a picture in the example, and prints nothing', async () => {
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
