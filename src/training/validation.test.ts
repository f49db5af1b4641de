import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { readRun } from '../../test/read-events.js';
import { Recorder } from '../../test/recorder.js';
import { useValidationWorld } from '../../test/validation-world.js';
import type { RgbImage } from '../base/rgb-image.js';
import type { RunContext } from '../base/run-context.js';
import { IPAdapterPipeline } from '../generation/pipeline.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import { cellOrigin } from '../images/labelled-sheet.js';
import { trainCrop } from '../images/train-transform.js';
import type { TrainOptions } from '../options/train-types.js';
import { train } from './train.js';

const { at, optionsFor, prompts, drawing } = useValidationWorld();

async function lossesOf(
  options: TrainOptions,
  { signal, onEvent: also }: RunContext = {},
): Promise<number[]> {
  const { losses, onEvent } = new Recorder();
  await train(options, {
    signal,
    onEvent: (event) => {
      onEvent(event);
      also?.(event);
    },
  });
  return losses;
}

/** The image prompt, the text alone and the generated images; with the words above them. */
const sizeOfSheet = (images: number, rows: number) => ({
  width: (2 + images) * 64,
  height: cellOrigin({ width: 64, height: 64 }, rows - 1, 0).top + 64,
});

/** The cell of a sheet of 64 × 64 images. */
function cell(sheet: RgbImage, row: number, column: number): Uint8Array {
  const { left, top } = cellOrigin({ width: 64, height: 64 }, row, column);
  const lines = Array.from({ length: 64 }, (_, y) => {
    const start = ((top + y) * sheet.width + left) * 3;
    return sheet.data.subarray(start, start + 64 * 3);
  });
  return new Uint8Array(Buffer.concat(lines));
}

describe('validation images', () => {
  it('leave training as it is, to the bit', async () => {
    const plain = await lossesOf({ ...optionsFor('plain'), maxSteps: 5 });
    const watched = await lossesOf({ ...optionsFor('watched'), ...drawing(), maxSteps: 5 });
    expect(watched).toEqual(plain);
    for (const file of ['ip_adapter', 'optimizer']) {
      const [a, b] = ['plain', 'watched'].map((run) =>
        readFileSync(at(run, 'checkpoint-5', `${file}.safetensors`)),
      ) as [Buffer, Buffer];
      expect(Buffer.compare(a, b), file).toBe(0);
    }
    expect(existsSync(at('plain', 'validation'))).toBe(false);
    expect(readdirSync(at('watched', 'validation')).sort()).toEqual([
      'step-2.png',
      'step-4.png',
      'step-5.png',
    ]);
    const shown = readRun(at('watched', 'logs')).flatMap(({ step, images: { validation } }) =>
      validation === undefined ? [] : [{ step, ...validation }],
    );
    expect(shown).toEqual(
      [2, 4, 5].map((step) => ({
        step,
        ...sizeOfSheet(2, 2),
        colorspace: 3,
        png: new Uint8Array(readFileSync(at('watched', 'validation', `step-${step}.png`))),
      })),
    );
  });

  it.each([undefined, 'latents,text,image'])(
    'are what generate draws with the checkpoint of the step; cached: %s',
    async (cache) => {
      const run = cache === undefined ? 'encoders' : 'cached';
      const options = { ...optionsFor(run), ...drawing(), numValidationImages: 5, maxSteps: 4 };
      await train({ ...options, ...(cache !== undefined && { cache }) });
      const sheetOf = (step: number) => readImage(fileSource(at(run, 'validation', `step-${step}.png`)));
      const sheet = await sheetOf(4);
      expect(sheet).toMatchObject(sizeOfSheet(5, 2));
      expect(Buffer.compare(sheet.data, (await sheetOf(2)).data)).not.toBe(0);
      using pipeline = await IPAdapterPipeline.load({
        model: at('model'),
        imageEncoder: at('image_encoder'),
        adapter: at(run, 'checkpoint-4'),
        dtype: 'float32',
      });
      for (const [row, file] of prompts().entries()) {
        const shown = trainCrop(await readImage(fileSource(file)), { width: 64, height: 64 });
        expect(cell(sheet, row, 0)).toEqual(new Uint8Array(shown.data));
        const expected = await pipeline.generate({
          prompt: ['a', 'b'][row] as string,
          images: [file],
          scale: 0.7,
          guidanceScale: 4,
          steps: 3,
          width: 64,
          height: 64,
          seed: 5,
          numImages: 5,
        });
        for (const [i, { data }] of expected.entries()) expect(cell(sheet, row, 2 + i)).toEqual(data);
        const [alone] = await pipeline.generate({
          ...{ prompt: ['a', 'b'][row] as string, guidanceScale: 4, steps: 3, width: 64, height: 64 },
          ...{ seed: 5, images: [file], scale: 0 },
        });
        expect(cell(sheet, row, 1)).toEqual(alone?.data);
      }
    },
  );

  it('show the scale, and follow the text alone with scale 0', async () => {
    const options = { ...drawing(), numValidationImages: 1, validationPrompts: ['a'], maxSteps: 1 };
    await train({ ...optionsFor('without'), ...options, validationScales: 0 });
    const sheet = await readImage(fileSource(at('without', 'validation', 'step-1.png')));
    using pipeline = await IPAdapterPipeline.load({ model: at('model'), dtype: 'float32' });
    const settings = { guidanceScale: 4, steps: 3, width: 64, height: 64, seed: 5 };
    const [expected] = await pipeline.generate({ prompt: 'a', ...settings });
    // One text for both, the same seed for both.
    for (const row of [0, 1])
      for (const column of [1, 2]) expect(cell(sheet, row, column)).toEqual(expected?.data);
  });

  it('have words: the step, file and text of each prompt, and a warning where the text is too long', async () => {
    const long = 'b '.repeat(90);
    const options = { ...drawing(), validationPrompts: ['a', long], numValidationImages: 1, maxSteps: 1 };
    const { messages, onEvent } = new Recorder();
    await train({ ...optionsFor('words'), ...options }, { onEvent });
    const file = at('words', 'validation', 'step-1.png');
    const { comments } = await sharp(file).metadata();
    expect(comments).toEqual([
      {
        keyword: 'Description',
        text: `step 1, scale 0.7, guidance 4\nimage prompt | scale 0 | seed 5\n0.png: a\n3.png: ${long}`,
      },
    ]);
    const sheet = await readImage(fileSource(file));
    const band = (from: number, to: number) => sheet.data.slice(from * sheet.width * 3, to * sheet.width * 3);
    // The title, the titles of the columns, and the label of each row.
    for (const top of [0, 11, 22, cellOrigin({ width: 64, height: 64 }, 1, 0).top - 11])
      expect(band(top, top + 11).includes(0)).toBe(true);
    expect(messages.filter((text) => text.includes('the last 15 of "b b'))).toHaveLength(1);
    // Each model is reported once.
    const models = messages.flatMap((text) => /^(\w+): \d+ tensors/.exec(text)?.[1] ?? []);
    expect(models).toHaveLength(new Set(models).size);
    expect(models).toContain('CLIPTextModel');
  });

  it('of a model that makes NaN are a message, and the run goes on', async () => {
    const file = at('model', 'vae', 'diffusion_pytorch_model.safetensors');
    const before = readFileSync(file);
    const spoilt = Buffer.from(before);
    const start = 8 + Number(spoilt.readBigUInt64LE());
    const header = JSON.parse(spoilt.subarray(8, start).toString());
    // The encoder, which training needs, stays whole.
    for (const [key, { data_offsets: offsets }] of Object.entries<{ data_offsets: number[] }>(header))
      if (key.startsWith('decoder.conv_out')) spoilt.writeUInt32LE(0x7fc07fc0, start + (offsets[0] ?? 0));
    writeFileSync(file, spoilt);
    try {
      const { messages, onEvent } = new Recorder();
      const { step } = await train({ ...optionsFor('nan'), ...drawing(), maxSteps: 2 }, { onEvent });
      expect(step).toBe(2);
      expect(
        messages.filter((text) => /^No validation images after step 2: .*the VAE made NaN/.test(text)),
      ).toHaveLength(1);
    } finally {
      writeFileSync(file, before);
    }
  });

  it('are not drawn again by a run that was complete', async () => {
    const options = { ...optionsFor('complete'), ...drawing(), maxSteps: 2 };
    await train(options);
    const { messages, onEvent } = new Recorder();
    await train({ ...options, resume: true }, { onEvent });
    const drew = () => messages.filter((text) => text.startsWith('Drew'));
    expect(drew()).toEqual([]);
    // As one that was killed before its last drawing.
    const sheet = at('complete', 'validation', 'step-2.png');
    const drawn = readFileSync(sheet);
    rmSync(sheet);
    await train({ ...options, resume: true }, { onEvent });
    expect(drew()).toEqual([`Drew ${sheet}`]);
    expect(readFileSync(sheet).equals(drawn)).toBe(true);
  });

  it('that cannot be written are a message, and the run goes on', async () => {
    mkdirSync(at('unwritable'));
    writeFileSync(at('unwritable', 'validation'), 'where the folder should be');
    const { messages, onEvent } = new Recorder();
    const { step } = await train({ ...optionsFor('unwritable'), ...drawing(), maxSteps: 3 }, { onEvent });
    expect(step).toBe(3);
    expect(messages.filter((text) => text.includes('could not be written: E'))).toEqual([
      expect.stringContaining('step-2.png'),
      expect.stringContaining('step-3.png'),
    ]);
  });

  it('are given up on a signal, and the run goes on from there as if there had been none', async () => {
    const whole = await lossesOf({ ...optionsFor('whole'), maxSteps: 4 });
    const abort = new AbortController();
    const options = { ...optionsFor('stopped'), ...drawing(), maxSteps: 4 };
    const first = await lossesOf(
      { ...options, validationSamplingSteps: 900 },
      {
        signal: abort.signal,
        onEvent: ({ type }) => type === 'checkpoint' && setTimeout(() => abort.abort(), 50),
      },
    );
    expect(first).toEqual(whole.slice(0, 2));
    expect(existsSync(at('stopped', 'validation'))).toBe(false);
    expect([...first, ...(await lossesOf({ ...options, resume: true }))]).toEqual(whole);
  });
});
