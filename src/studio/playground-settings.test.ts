import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { encodeImage } from '../images/generated-file.js';
import type { StudioFolders } from './folders.js';
import { Gallery } from './gallery.js';
import { readPlaygroundSettings } from './playground-restore.js';
import { checkPlayground } from './playground-settings.js';

let root: string;
let folders: StudioFolders;
let gallery: Gallery;
/** Names of the gallery. */
let photo: string;
let mask: string;
const at = (...parts: string[]): string => join(root, ...parts);

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'playground-'));
  for (const folder of ['runs', 'models/sd', 'models/control', 'outside'])
    mkdirSync(at(folder), { recursive: true });
  writeFileSync(at('models/lora.safetensors'), '');
  writeFileSync(at('outside/lora.safetensors'), '');
  symlinkSync(at('outside'), at('models/link'));
  symlinkSync(at('outside/lora.safetensors'), at('models/linked.safetensors'));
  folders = { runs: at('runs'), datasets: [at('runs')], models: [at('models')] };
  gallery = new Gallery(at('runs'));
  const image = (background: string): Promise<Buffer> =>
    sharp({ create: { width: 16, height: 16, channels: 3, background } })
      .png()
      .toBuffer();
  [photo, mask] = (
    await Promise.all(['red', 'white'].map(async (color) => gallery.upload(await image(color))))
  ).map(({ name }) => name) as [string, string];
});
afterAll(() => rmSync(root, { recursive: true }));

const check = (form: object) => checkPlayground({ model: at('models/sd'), ...form }, gallery, folders);
const errorsOf = (form: object): Record<string, string> => {
  const checked = check(form);
  return 'errors' in checked ? checked.errors : {};
};

describe('checkPlayground', () => {
  it('passes sources, ControlNets and LoRAs under the names of the options of generate', () => {
    const checked = check({
      loras: [{ path: at('models/lora.safetensors'), scale: 0.5 }],
      ...{ initImage: photo, maskImage: mask, strength: 0.6 },
      controlnet: [at('models/control'), 'org/control'],
      controlImage: [photo, mask],
      ...{ controlnetScale: [0.5, 1], controlRange: [0, 0.5, 0.2, 1], guessMode: true },
    });
    const file = (name: string): string => at('runs/.studio/uploads', name);
    expect(checked).toMatchObject({
      models: {
        model: at('models/sd'),
        loras: [{ path: at('models/lora.safetensors'), scale: 0.5 }],
        controlnet: [at('models/control'), 'org/control'],
      },
      prompt: {
        ...{ initImage: file(photo), maskImage: file(mask), strength: 0.6 },
        controlImage: [file(photo), file(mask)],
        ...{ controlnetScale: [0.5, 1], controlRange: [0, 0.5, 0.2, 1], guessMode: true },
      },
    });
  });

  it('says of models without ControlNets and LoRAs what generate says of them', () => {
    expect(check({ loras: [], controlnet: [], controlImage: [] })).toMatchObject({
      models: expect.not.objectContaining({ loras: expect.anything(), controlnet: expect.anything() }),
      prompt: expect.not.objectContaining({ controlImage: expect.anything() }),
    });
  });

  it('refuses paths that leave the folders, by ../, by a link, or by ~', () => {
    const wrong = [
      ...['/etc', '../secret', at('models/../outside'), at('outside'), '~', '~/lora.safetensors'],
      ...[at('models/link'), at('models/link/lora.safetensors'), at('models/linked.safetensors')],
      'org/../../etc',
    ];
    for (const path of wrong) {
      const errors = errorsOf({
        loras: [{ path: at('models/lora.safetensors') }, { path }],
        controlnet: [path],
        controlImage: [photo],
      });
      expect(Object.keys(errors).sort(), path).toEqual(['controlnet[0]', 'loras[1].path']);
      expect(errors['loras[1].path']).toMatch(/which is not in .*: start the studio with --models/);
    }
  });

  it('lets the engine expand no ~ where a folder of the studio is the working folder', () => {
    const here = { ...folders, models: [process.cwd()] };
    const checked = checkPlayground({ model: 'org/model', loras: [{ path: '~/x' }] }, gallery, here);
    expect(checked).toMatchObject({ models: { loras: [{ path: './~/x' }] } });
  });

  it('takes images by their names alone, and none that is a link', () => {
    const linked = `${'0'.repeat(32)}.png`;
    symlinkSync(at('outside/lora.safetensors'), at('runs/.studio/uploads', linked));
    for (const name of [
      '../../secret.png',
      `../uploads/${photo}`,
      at('runs/.studio/uploads', photo),
      linked,
      '',
    ])
      expect(
        errorsOf({
          ...{ initImage: name, maskImage: name },
          ...{ controlnet: ['org/control'], controlImage: [name] },
        }),
        name,
      ).toEqual({
        initImage: 'the image is not there any more; drop it again',
        maskImage: 'the image is not there any more; drop it again',
        'controlImage[0]': 'the image is not there any more; drop it again',
      });
  });

  it.each([
    ['a mask without an image', { maskImage: 'mask' }, 'maskImage', /needs --init-image/],
    ['a strength without an image', { strength: 0.5 }, 'strength', /is for --init-image/],
    ['a strength above 1', { initImage: 'photo', strength: 2 }, 'strength', /from 0 to 1/],
    [
      'a strength without a step',
      { initImage: 'photo', strength: 0.1, steps: 5 },
      'strength',
      /leaves none of 5/,
    ],
    ['an image for no ControlNet', { controlImage: ['photo'] }, 'controlImage', /needs --controlnet/],
    ['a ControlNet without an image', { controlnet: ['org/control'] }, 'controlImage', /give one for each/],
    ['another number of strengths', { controlnetScale: [1, 1] }, 'controlnetScale', /2 values for 0/],
    ['a strength out of range', { controlnetScale: [1, -1] }, 'controlnetScale[1]', /from 0 to 10,000/],
    ['half a range', { controlRange: [0, 0.5, 1] }, 'controlRange', /pairs of start and end/],
    ['a range that ends first', { controlRange: [0.5, 0.2] }, 'controlRange', /ends before it starts/],
    ['a range out of range', { controlRange: [0, 2] }, 'controlRange[1]', /from 0 to 1/],
    ['guess mode alone', { guessMode: true }, 'guessMode', /there is none/],
    ['a LoRA without a path', { loras: [{ path: '' }] }, 'loras[0].path', /must not be empty/],
    ['a strength of a LoRA', { loras: [{ path: 'a/b', scale: 200 }] }, 'loras[0].scale', /from -100 to 100/],
    ['too many ControlNets', { controlnet: Array(5).fill('a/b') }, 'controlnet', /4 ControlNets at most/],
  ])('names the field of %s', (_, form, field, message) => {
    const named = JSON.parse(
      JSON.stringify(form).replace('"photo"', `"${photo}"`).replace('"mask"', `"${mask}"`),
    );
    const errors = errorsOf(named);
    expect(errors[field], JSON.stringify(errors)).toMatch(message);
  });
});

describe('readPlaygroundSettings', () => {
  const restored = async (options: object) => {
    const settings = JSON.stringify({ version: 1, options, files: {} });
    const bytes = await encodeImage({ data: new Uint8Array(3), width: 1, height: 1 }, '.png', {
      parameters: '',
      settings,
    });
    writeFileSync(at('image.png'), bytes);
    return readPlaygroundSettings(at('image.png'), gallery);
  };

  it('restores sources, ControlNets and LoRAs', async () => {
    const options = {
      ...{ model: at('models/sd'), loras: [{ path: at('models/lora.safetensors'), scale: 0.5 }] },
      ...{ initImage: { elsewhere: photo }, maskImage: { elsewhere: mask }, strength: 0.6 },
      ...{ controlnet: [at('models/control')], controlImage: [{ elsewhere: photo }] },
      ...{ controlnetScale: [0.5], controlRange: [0, 0.5], guessMode: true },
    };
    const { form, missing } = await restored(options);
    expect(missing).toEqual([]);
    expect(form).toEqual({
      ...options,
      ...{ initImage: photo, maskImage: mask, controlImage: [photo], adapters: [] },
    });
    expect(errorsOf({ ...form })).toEqual({});
  });

  it('names what it does not find, and leaves out what needs it', async () => {
    const gone = { elsewhere: 'gone.png' };
    const { form, missing } = await restored({
      ...{
        model: gone,
        loras: [
          { path: gone, scale: 1 },
          { path: 'org/lora', scale: 2 },
        ],
      },
      ...{ initImage: gone, maskImage: { elsewhere: mask }, strength: 0.5, vaeTiling: true },
      ...{ controlnet: [gone, 'org/control'], controlImage: [{ elsewhere: photo }, gone] },
    });
    expect(missing.sort()).toEqual([
      'controlImage',
      'controlnet',
      'initImage',
      'loras',
      'maskImage',
      'model',
      'strength',
      'vaeTiling',
    ]);
    expect(form).toEqual({
      ...{ model: '', loras: [{ path: 'org/lora', scale: 2 }], adapters: [] },
      ...{ controlnet: ['', 'org/control'], controlImage: [photo, ''] },
    });
  });
});
