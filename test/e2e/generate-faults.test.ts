import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
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

describe('ip-adapter generate, refused or interrupted', () => {
  it.each([
    [['--steps', 'many'], /--steps is "many"; it must be a whole number/],
    [['--images', 'none.png'], /ENOENT|none.png but the file is missing/],
    [['--weights', '1'], /--weights .* has 1 values for 0 --images/],
    [['--out', 'image.gif'], /--out .*must end in .png/],
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

  it('keeps the images that were finished when it is stopped', async () => {
    const args = ['--num-images', '3', '--batch-size', '1', '--steps', '100', '--out', at('kept.png')];
    const first = at('kept-0.png');
    let isSent = false;
    const stopped = await runProgram(process.execPath, [ipAdapter, 'generate', ...flags, ...args], {
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
    ['data check', ['--dataset', 'data.json', '--show', '2', '--show-file', 'folder.png']],
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
    ['--steps 1001', 2, [/at most 1000 steps/]],
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
    const args = [ipAdapter, 'generate', ...flags, '--steps', '900', '--out', at('never.png')];
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
