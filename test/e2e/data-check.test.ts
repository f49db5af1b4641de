import { mkdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runProgram } from './command.js';
import { makeWorld, stretchImages, type World } from './world.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const command = join(root, 'dist/cli/ip-adapter.cjs');

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
  // A tiny one, a wide one.
  await stretchImages(world, [
    [10, 12],
    [400, 100],
  ]);
});
afterAll(() => world.remove());

const run = (...args: string[]) => runProgram(process.execPath, [command, ...args], { cwd: world.root });
const check = (...args: string[]) =>
  run('data', 'check', '--dataset', 'data.json', '--dataset-root', 'images', ...args);

describe('ip-adapter data check', () => {
  it('tells what is in the dataset, and exits with 0 where all can be read', async () => {
    const { exitCode, stdout, stderr } = await check('--resolution', '64', '--batch-size=3');
    expect(stderr).not.toContain('Error');
    expect(exitCode).toBe(0);
    expect(stdout).toMatch(/rows +8, bad 0, incomplete 0, left out 0/);
    expect(stdout).toMatch(/as stored +as viewers show them/);
    expect(stdout).toMatch(/width +min 10, median 80, max 400/);
    expect(stdout).toMatch(/upscaled +1 smaller/);
    expect(stdout).toMatch(/tokens +not counted: give --model/);
    expect(stdout).toMatch(/epoch +3 steps, 1 of them smaller/);
    expect(stdout).toMatch(/reading +[\d.]+ rows\/s here; an epoch's images take 0:\d\d/);
    expect(stdout).not.toContain('bucket');
  });

  it('draws what the encoders see', async () => {
    const flags = ['--image-encoder', 'image_encoder', '--show', '3', '--reference-rotation', '15'];
    const { exitCode, stderr } = await check('--resolution=64', ...flags, '--show-file', 'sheet.png');
    expect([exitCode, stderr]).toEqual([0, expect.stringContaining('Contact sheet: sheet.png')]);
    const { width, height } = await sharp(join(world.root, 'sheet.png')).metadata();
    // Two cells of 160 pixels beside each other; three below each other, with lines of text.
    expect([width, height]).toEqual([320, 3 * 160 + 5 * 11]);
    const without = await check('--show', '3');
    expect([without.exitCode, without.stderr]).toEqual([2, expect.stringContaining('--image-encoder')]);
  });

  it('with a corrupt image it names it, writes all into the file, and exits with 2', async () => {
    const own = join(world.root, 'images', '5.png');
    truncateSync(own, 60);
    const options = ['--buckets', '--resolution=64', '--batch_size', '3'];
    const tokenizer = ['--model', 'model'];
    const { exitCode, stdout, stderr } = await check(...options, ...tokenizer, '--out', 'report.json');
    expect(exitCode).toBe(2);
    expect(stdout).toMatch(/Bad rows:\n {2}row 5: .*5\.png: it is damaged or incomplete/);
    expect(stdout).toMatch(/64x64 +7 +3 +1\n +64x32 +1 +1 +1/);
    expect(stdout).toMatch(/tokens +min 11, median 11, max 11; truncated at 77: 0/);
    expect(stderr).toMatch(/^DatasetError: 1 of 8 rows have no readable image/m);
    const report = JSON.parse(readFileSync(join(world.root, 'report.json'), 'utf8'));
    expect(report.badRows).toEqual([{ row: 5, file: own, reason: expect.stringContaining('damaged') }]);
    expect(report.stepsPerEpoch).toBe(4);
  });

  it('names what is left out, what is no image, and what is shown otherwise', async () => {
    const folder = join(world.root, 'folder');
    mkdirSync(folder);
    const put = (name: string, content: string | Buffer) => writeFileSync(join(folder, name), content);
    const black = sharp({ create: { width: 64, height: 64, channels: 3, background: 'black' } });
    for (const name of ['1', '2', '3', '4']) put(`${name}.txt`, 'a b');
    put('1.jpg', await black.clone().withMetadata({ orientation: 6 }).jpeg().toBuffer());
    put('2.tiff', await black.clone().tiff().toBuffer());
    put('3.heic', 'x');
    put('4.jpg', 'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n');
    put('logo.gif', 'x');
    put('._1.jpg', 'x');
    const { exitCode, stdout, stderr } = await run('data', 'check', '--dataset', 'folder', '--resolution=64');
    expect(exitCode).toBe(2);
    expect(stdout).toMatch(/rows +3, bad 1, incomplete 1, left out 1/);
    expect(stdout).toMatch(/as stored +1 with an EXIF orientation, which training ignores\n/);
    expect(stdout).toMatch(/row 2: .*4\.jpg: it is a Git LFS pointer.*git lfs pull/);
    expect(stdout).toMatch(/incomplete: .*3\.heic: its extension is not supported/);
    expect(stdout).toMatch(/Left out:\n.*logo\.gif: it has no caption/);
    expect(stderr).toMatch(/2 of 4 rows have no readable image/);
  });

  it('refuses a wrong option and a missing dataset in its own words, and says in --help what the exit code means', async () => {
    const folder = await check('--out', '/nowhere/report.json');
    expect([folder.exitCode, folder.stderr]).toEqual([2, expect.stringContaining('--out (out) at /nowhere')]);
    const missing = await run('data', 'check', '--dataset', '/nowhere/data.json');
    expect([missing.exitCode, missing.stderr]).toEqual([2, expect.stringMatching(/DatasetError: .*nowhere/)]);
    const unknown = await check('--bucket');
    expect([unknown.exitCode, unknown.stderr]).toEqual([
      2,
      expect.stringContaining("unknown option '--bucket'"),
    ]);
    const help = await run('data', 'check', '--help');
    expect(help.exitCode).toBe(0);
    expect(help.stdout).toMatch(/--buckets +train on images in their own aspect/);
    expect(help.stdout).toMatch(/Exit code: 0 if every image can be read; 2 if one cannot/);
  });
});
