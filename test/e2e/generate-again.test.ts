import { appendFileSync, copyFileSync, existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { IPAdapterPipeline } from '../../src/generation/pipeline.js';
import { readImage } from '../../src/images/image.js';
import { fileSource } from '../../src/images/image-source.js';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { ipAdapter, runProgram } from './command.js';
import { useOwnPlaces } from './own-places.js';

let world: Adapted;
let flags: string[];
beforeAll(async () => {
  world = await makeAdaptedWorld();
  useOwnPlaces(world.root);
  const models = ['--model', world.model, '--image-encoder', world.imageEncoder, '--adapter', world.adapter];
  const image = ['--images', world.picture(0), world.picture(3), '--weights', '1', '0.5', '--scale', '0.7'];
  flags = [...models, ...image, '--steps', '3', '--width', '64', '--height', '64', '--scheduler', 'euler-a'];
});
afterAll(() => world.remove());

const run = (...args: string[]) =>
  runProgram(process.execPath, [ipAdapter, 'generate', ...args], { cwd: world.root });
const at = (name: string) => join(world.root, name);
const bytes = (name: string) => readFileSync(at(name));
const pixels = async (name: string) => Buffer.from((await readImage(fileSource(at(name)))).data);

const prompt = 'a "cat", 猫: <b>&amp;</b>\nSteps: 9';

describe('generate --from', () => {
  it.each(['png', 'webp', 'jpg'])('repeats an image in a .%s to the byte', async (ending) => {
    const words = ['--prompt', prompt, '--negative-prompt', 'c: d, "e"'];
    await run(...flags, ...words, '--guidance-rescale', '0.3', '--out', `one.${ending}`);
    const { stdout, stderr } = await run('--from', `one.${ending}`, '--out', `again.${ending}`);
    expect(stdout).toBe(`again.${ending}`);
    expect(stderr).not.toMatch(/differ/);
    expect(bytes(`again.${ending}`)).toEqual(bytes(`one.${ending}`));
    expect(bytes(`one.${ending}`).includes(world.root)).toBe(false);
    expect((await sharp(at(`one.${ending}`)).metadata()).format).toBe(ending === 'jpg' ? 'jpeg' : ending);
  });

  it('repeats one image of a batch to the byte, and one of the library', async () => {
    await run(...flags, '--num-images', '3', '--seed', '7', '--batch-size', '3', '--out', 'many.png');
    await run('--from', 'many-9.png', '--out', 'third.png');
    expect(bytes('third.png')).toEqual(bytes('many-9.png'));
    const models = { model: world.model, imageEncoder: world.imageEncoder, adapter: world.adapter };
    using pipeline = await IPAdapterPipeline.load(models);
    const jobs = ['a', 'b c', 'd'].map((text, i) => ({ prompt: text, seed: 0, images: [world.picture(i)] }));
    const images = await pipeline.generateEach(jobs, { steps: 2, width: 64, height: 64 });
    await images[2]?.save(at('job.png'));
    await run('--from', 'job.png', '--out', 'job-again.png');
    expect(bytes('job-again.png')).toEqual(bytes('job.png'));
  });

  it('lets flags change the settings', async () => {
    await run(...flags, '--out', 'base.png');
    await run('--from', 'base.png', '--seed', '4', '--out', 'changed.png');
    await run(...flags, '--seed', '4', '--out', 'expected.png');
    expect(await pixels('changed.png')).toEqual(await pixels('expected.png'));
    expect(await pixels('changed.png')).not.toEqual(await pixels('base.png'));
  });

  it('names files that have moved or changed', async () => {
    copyFileSync(world.adapter, at('other.safetensors'));
    await run(...flags, '--adapter', 'other.safetensors', '--out', 'moved.png');
    appendFileSync(at('other.safetensors'), 'x');
    const changed = await run('--from', 'moved.png', '--out', 'x.png');
    expect(changed.stderr).toContain(
      'Changed since the image was made, so that the result will differ: --adapter (other.safetensors)',
    );
    renameSync(at('other.safetensors'), at('new-place.safetensors'));
    const moved = await run('--from', 'moved.png', '--out', 'y.png');
    expect(moved.exitCode).toBe(2);
    expect(moved.stderr).toContain(
      'The image was made with files that are not there any more: --adapter (other.safetensors); give their new places',
    );
    expect(existsSync(at('y.png'))).toBe(false);
    copyFileSync(world.adapter, at('new-place.safetensors'));
    const found = await run('--from', 'moved.png', '--adapter', 'new-place.safetensors', '--out', 'y.png');
    expect(found.stderr).not.toContain('Changed');
    expect(await pixels('y.png')).toEqual(await pixels('moved.png'));
  });

  it('says where an image has no such settings, or needs one that was in memory', async () => {
    const none = await run('--from', world.picture(0), '--out', 'z.png');
    expect(none.stderr).toMatch(
      /Expected an image with the settings of ip-adapter in .*0\.png but it has none/,
    );
    expect((await run('--from', 'nothing.png')).stderr).toMatch(/nothing\.png but it cannot be read/);
    const models = { model: world.model, imageEncoder: world.imageEncoder, adapter: world.adapter };
    using pipeline = await IPAdapterPipeline.load(models);
    const image = await readImage(fileSource(world.picture(0)));
    const [made] = await pipeline.generate({ images: [image], steps: 2, width: 64, height: 64 });
    await made?.save(at('memory.webp'));
    expect((await run('--from', 'memory.webp', '--out', 'm.png')).stderr).toContain(
      'The image was made with images in memory, which it does not contain; give --images[0]',
    );
    await run('--from', 'memory.webp', '--images', world.picture(0), '--out', 'm.png');
    expect(await pixels('m.png')).toEqual(Buffer.from(made?.data as Uint8Array));
  });
});

describe('generate --prompts-from', () => {
  it('draws each line of a text, numbered', async () => {
    writeFileSync(at('prompts.txt'), 'a\n\n  b, c\r\n');
    const { stdout } = await run(...flags, '--prompts-from', 'prompts.txt', '--seed', '3', '--out', 'p.png');
    expect(stdout.split('\n')).toEqual(['p-0001.png', 'p-0002.png']);
    await run(...flags, '--prompt', 'b, c', '--seed', '3', '--out', 'alone.png');
    expect(bytes('p-0002.png')).toEqual(bytes('alone.png'));
  });

  it('draws each object of JSON Lines with its own options', async () => {
    const lines = [
      { prompt: 'a', seed: 5, negative_prompt: 'b', num_images: 2 },
      'just text',
      { prompt: 'c', images: [world.picture(1)], scale: 0.2, steps: 2 },
    ];
    writeFileSync(at('prompts.jsonl'), lines.map((line) => JSON.stringify(line)).join('\n'));
    const words = ['--prompts-from', 'prompts.jsonl', '--out', 'j.webp'];
    const { stdout, stderr, exitCode } = await run(...flags, ...words);
    // The third has one image, and two weights by the flag; what was finished stays.
    expect(stderr).toMatch(/3 of 4 images were finished[\s\S]*weights.* has 2 values for 1/);
    expect(exitCode).toBe(2);
    expect(stdout.split('\n')).toEqual(['j-0001-5.webp', 'j-0001-6.webp', 'j-0002.webp']);
    writeFileSync(at('prompts.jsonl'), JSON.stringify({ ...(lines[2] as object), weights: [2] }));
    await run(...flags, '--prompts-from', 'prompts.jsonl', '--out', 'k.png');
    const own = ['--images', world.picture(1), '--weights', '2', '--scale', '0.2', '--steps', '2'];
    const [models, sizes] = [flags.slice(0, 6), flags.slice(-6)];
    await run(...models, ...sizes, ...own, '--prompt', 'c', '--out', 'l.png');
    expect(bytes('k-0001.png')).toEqual(bytes('l.png'));
  });

  it('names the line that is at fault before a model is loaded', async () => {
    const fails = async (text: string, name = 'bad.jsonl') => {
      writeFileSync(at(name), text);
      const { stderr, exitCode } = await run('--model', 'nowhere', '--prompts-from', name);
      expect(exitCode).toBe(2);
      return stderr;
    };
    expect(await fails('{"prompt": "a"}\n{"promt": "b"}')).toMatch(
      /Unknown option promt at bad\.jsonl:2; did you mean prompt/,
    );
    expect(await fails('{"prompt": "a"}\n\n[1]')).toMatch(/Expected an object .* at bad\.jsonl:3/);
    expect(await fails('{"prompt": ')).toMatch(/Expected JSON at bad\.jsonl:1/);
    expect(await fails('{"steps": 0}')).toMatch(/steps of prompt 1 in bad\.jsonl is 0; it must be/);
    expect(await fails(' \n', 'empty.txt')).toMatch(/Expected a prompt in each line of empty\.txt/);
  });
});
