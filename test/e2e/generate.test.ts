import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { writeChecksums } from '../../src/base/checksums.js';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { ipAdapter, runProgram } from './command.js';

let world: Adapted;
let flags: string[];
beforeAll(async () => {
  world = await makeAdaptedWorld();
  flags = world.generateFlags;
});
afterAll(() => world.remove());

const run = (...args: string[]) => runProgram(process.execPath, [ipAdapter, ...args], { cwd: world.root });
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
    expect(lines[0]).toMatch(/^ +CLIP-I +retrieval top-1 +copies$/);
    const [without, withAdapter] = scores.map(({ clipI }: { clipI: number }) => clipI.toFixed(4));
    expect(lines[1]).toContain(`no adapter           ${without} (`);
    expect(lines[2]).toContain(`scale 0.5            ${withAdapter} (`);
    expect(lines[3]).toMatch(/^ {2}another reference {2}0\.\d{4} \(/);
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
