import {
  appendFileSync,
  copyFileSync,
  cpSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../../test/e2e/world.js';
import { expectAllclose } from '../../../test/golden.js';
import { Recorder } from '../../../test/recorder.js';
import { residentOf } from '../../../test/resident-pages.js';
import { tarOf } from '../../../test/write-tar.js';
import { plus } from '../../adapters/plus.js';
import { type Batch, DataLoader } from '../../data/data-loader.js';
import { openDataset } from '../../data/open-dataset.js';
import { type Part, parts } from '../../options/train-options.js';
import { openModels, type TrainingModels, trainingModels } from '../setup.js';
import { train } from '../train.js';
import { type Encoders, openEncoders } from './encoders.js';
import type { EncoderSource, EncoderSources } from './frozen-encoders.js';

const SAMPLE_IMAGES = 8;
const placement = { dtype: 'float32', device: 'cpu' } as const;

let world: World;
beforeAll(async () => {
  world = await makeWorld(SAMPLE_IMAGES);
});
afterAll(() => world.remove());
const at = (...names: string[]): string => join(world.root, ...names);
beforeEach(() => rmSync(at('cache'), { recursive: true, force: true }));

interface Opened {
  encoders: Encoders;
  loader: DataLoader;
  /** How many entries each part had to encode. */
  encoded: Record<string, number>;
}

/** Opens the encoders of the world's training. `adapt` may replace the encoders' sources. */
async function open(
  cached: readonly Part[],
  resolution = 64,
  adapt: (models: TrainingModels) => EncoderSources = ({ encoders }) => encoders,
  dataset = at('data.json'),
): Promise<Opened> {
  const models = trainingModels(openModels(at('model'), at('image_encoder'), placement), plus, null, {
    ...placement,
    rowsAtOnce: 3,
  });
  const datasetRoot = dataset.endsWith('json') ? at('images') : undefined;
  const { rows } = await openDataset({ dataset, datasetRoot });
  const { tokenizer, imageProcessor } = models;
  const loader = new DataLoader({
    ...{ rows, tokenizer, imageProcessor, resolution },
    ...{ batchSize: 3, prefetch: 2, seed: 1 },
  });
  const encoded: Record<string, number> = {};
  const onMessage = (message: string): void => {
    const [, part, count, forDrops = 0] =
      /^Cache of (\w+): complete, (\d+) newly encoded(?: and (\d+) for what is dropped)?$/.exec(message) ??
      [];
    if (part !== undefined) encoded[part] = Number(count) + Number(forDrops);
  };
  const options = { cached, cacheDir: at('cache'), rows, resolution, loader, placement, onMessage };
  const encoders = await openEncoders({ ...models, encoders: adapt(models) }, options);
  return { encoders, loader, encoded };
}

const all = { latents: SAMPLE_IMAGES, image: SAMPLE_IMAGES + 1, text: SAMPLE_IMAGES + 1 };
const none = { latents: 0, image: 0, text: 0 };

describe('cached encodings', () => {
  it('are those of the encoders, also of dropped captions and images', async () => {
    const [fresh, cached] = [await open([]), await open(parts)];
    expect(cached.encoded).toEqual(all);
    const batches: Batch[] = [];
    for (let epoch = 0; epoch < 6; epoch++)
      for await (const batch of fresh.loader.batches(epoch)) batches.push(batch);
    const dropped = batches.filter(({ drops }) =>
      drops.some(({ dropImage, dropText }) => dropImage || dropText),
    );
    expect(dropped.length).toBeGreaterThan(0);
    for (const batch of batches) {
      expectAllclose(cached.encoders.latents(batch).rows, fresh.encoders.latents(batch).rows, 1e-5);
      expectAllclose(cached.encoders.text(batch).rows, fresh.encoders.text(batch).rows, 1e-5);
      const image = cached.encoders.image(batch).rows.to('float32');
      expectAllclose(image, fresh.encoders.image(batch).rows, 2 ** -10);
    }
  });

  it('leave the memory of the process to the next model', async () => {
    const { encoders, loader } = await open([]);
    const { value: batch } = await loader.batches(0).next();
    for (const [part, path] of [
      ['latents', at('model', 'vae', 'diffusion_pytorch_model.safetensors')],
      ['text', at('model', 'text_encoder', 'model.safetensors')],
      ['image', at('image_encoder', 'model.safetensors')],
    ] as const) {
      encoders[part](batch as Batch);
      // These tensors are small: the pages at their edges, which hold others too, stay.
      expect(residentOf(path), part).toBeLessThan((0.75 * statSync(path).size) / 1024);
    }
  });

  it('are made once, whatever else is in the dataset; anything that matters makes new ones', async () => {
    const count = async (resolution?: number) => (await open(parts, resolution)).encoded;
    expect(await count()).toEqual(all);
    expect(await count()).toEqual(none);

    const rows = JSON.parse(readFileSync(at('data.json'), 'utf8'));
    const write = (changed: unknown[]) => writeFileSync(at('data.json'), JSON.stringify(changed));
    write([...rows.slice(3).reverse(), { ...rows[0], text: 'another caption' }]);
    expect(await count()).toEqual({ ...none, text: 1 });
    write(rows);

    const [imageFile, kept] = [at('images', '0.png'), at('kept.png')];
    copyFileSync(imageFile, kept);
    copyFileSync(at('images', '1.png'), imageFile);
    expect(await count()).toEqual(none);
    appendFileSync(imageFile, 'more');
    expect(await count()).toEqual({ ...none, latents: 1, image: 1 });
    copyFileSync(kept, imageFile);

    expect(await count(72)).toEqual({ ...none, latents: SAMPLE_IMAGES });
    writeFileSync(at('image_encoder', 'preprocessor_config.json'), '{"image_mean": [0.5, 0.5, 0.5]}');
    expect(await count()).toEqual({ ...none, image: SAMPLE_IMAGES + 1 });
    rmSync(at('image_encoder', 'preprocessor_config.json'));
    expect(await count()).toEqual(none);

    const weights = at('model', 'vae', 'diffusion_pytorch_model.safetensors');
    cpSync(weights, at('kept.safetensors'), { preserveTimestamps: true });
    const bytes = readFileSync(weights);
    bytes.writeFloatLE(0.5, bytes.length - 4);
    const { atime, mtime } = statSync(weights);
    writeFileSync(weights, bytes);
    utimesSync(weights, atime, mtime);
    expect(await count()).toEqual({ ...none, latents: SAMPLE_IMAGES });
    cpSync(at('kept.safetensors'), weights, { preserveTimestamps: true });
    expect(await count()).toEqual(none);
  });

  it.each(['rich.json', 'rich.tar'])(
    'hold every caption of a row, and its prompt image (%s)',
    async (name) => {
      const rich = Array.from({ length: 4 }, (_, i) => ({
        image_file: `${i}.png`,
        // Rows 2 and 3 are prompted by one image, which is also row 0's.
        prompt_image_file: `${[1, 5, 0, 0][i]}.png`,
        text: ['a', `b ${i}`, 'c'].slice(0, i + 1),
      }));
      const bytesOf = (file: string) => readFileSync(at('images', file));
      writeFileSync(at('rich.json'), JSON.stringify(rich));
      const shards = rich.map(({ image_file, prompt_image_file, text }) =>
        // Tars that were joined have the same names again.
        tarOf([
          ['0.png', bytesOf(image_file)],
          ['0.prompt.png', bytesOf(prompt_image_file)],
          ['0.json', JSON.stringify({ text })],
        ]),
      );
      writeFileSync(at('rich.tar'), Buffer.concat(await Promise.all(shards)));
      const fresh = await open([], 64, undefined, at(name));
      const cached = await open(parts, 64, undefined, at(name));
      // 'a', 'b 1', 'b 2', 'b 3', 'c' and ''; images 1, 5, 0 and none.
      expect(cached.encoded).toEqual({ latents: 4, image: 4, text: 6 });
      const captions = new Set<string>();
      for (let epoch = 0; epoch < 8; epoch++)
        for await (const batch of fresh.loader.batches(epoch)) {
          for (const caption of batch.captions) captions.add(caption);
          for (const part of parts)
            expectAllclose(
              cached.encoders[part](batch).rows.to('float32'),
              fresh.encoders[part](batch).rows,
              2 ** -10,
            );
        }
      expect(captions.size).toBeGreaterThan(4);
    },
  );

  it('that were made before an interruption are kept', async () => {
    const interrupted = (source: EncoderSource): EncoderSource => ({
      ...source,
      load: () => {
        const encoder = source.load();
        let calls = 0;
        const encode: typeof encoder.encode = (examples) => {
          if (calls++ === 2) throw new Error('interrupted');
          return encoder.encode(examples);
        };
        return { ...encoder, encode };
      },
    });
    const adapt = ({ encoders }: TrainingModels) => ({ ...encoders, latents: interrupted(encoders.latents) });
    await expect(open(['latents'], 64, adapt)).rejects.toThrow('interrupted');
    expect((await open(['latents'])).encoded).toEqual({ latents: SAMPLE_IMAGES - 6 });
  });

  it('take the place of the encoders, which are loaded only where something is missing', async () => {
    const loaded: Part[] = [];
    const adapt = ({ encoders }: TrainingModels): EncoderSources => {
      const watched = (part: Part): EncoderSource => ({
        ...encoders[part],
        load: () => {
          loaded.push(part);
          return encoders[part].load();
        },
      });
      return { latents: watched('latents'), text: watched('text'), image: watched('image') };
    };
    await open(['latents', 'text'], 64, adapt);
    expect(loaded.splice(0)).toEqual(['image', 'latents', 'text']);
    await open(parts, 64, adapt);
    expect(loaded.splice(0)).toEqual(['image']);
    await open(parts, 64, adapt);
    expect(loaded).toEqual([]);
  });
});

describe('training with a cache', () => {
  const run = async (name: string, options: { cache?: string; [key: string]: unknown } = {}) => {
    const { losses, messages: told, onEvent } = new Recorder();
    const result = await train(
      {
        ...world.optionsFor(name),
        cacheDir: at('cache'),
        batchSize: 3,
        maxSteps: 12,
        learningRate: 1e-3,
        ...options,
      },
      { onEvent },
    );
    return { losses, told, ...result };
  };
  const expectClose = (actual: number[], expected: number[], tolerance: number): void => {
    expect(actual).toHaveLength(expected.length);
    for (const [i, loss] of expected.entries())
      expect(Math.abs((actual[i] as number) / loss - 1)).toBeLessThan(tolerance);
  };

  it('has the losses of training without, within float noise', async () => {
    const { losses } = await run('without');
    expectClose((await run('with latents, text', { cache: 'latents,text' })).losses, losses, 1e-5);
    const whole = (await run('with all', { cache: 'image,text,latents' })).losses;
    expectClose(whole, losses, 2e-3);
    expect((await run('with all again', { cache: 'latents,text,image' })).losses).toEqual(whole);
  });

  it('goes on to the bit, and with another choice of what is cached', async () => {
    const all = { cache: 'latents,text,image' };
    const whole = await run('whole', all);
    const first = await run('resumed', { ...all, maxSteps: 5 });
    cpSync(at('resumed'), at('changed'), { recursive: true });
    const rest = await run('resumed', { ...all, resume: true });
    expect([...first.losses, ...rest.losses]).toEqual(whole.losses);
    const changed = await run('changed', { cache: 'text', resume: true });
    expectClose([...first.losses, ...changed.losses], whole.losses, 2e-3);
  });

  it('skips images that cannot be read, as training without', async () => {
    const own = await makeWorld(SAMPLE_IMAGES);
    try {
      for (const name of ['2.png', '5.png']) {
        copyFileSync(join(own.root, 'images', '1.png'), join(own.root, 'images', name));
        truncateSync(join(own.root, 'images', name), 60);
      }
      rmSync(join(own.root, 'images', '6.png'));
      const data = {
        dataset: join(own.root, 'data.json'),
        datasetRoot: join(own.root, 'images'),
        maxSteps: 6,
      };
      const without = await run('bad', data);
      const sorted = (rows: typeof without.badRows) =>
        rows.map(({ file, reason }) => `${file} ${reason}`).sort();
      for (const cache of ['latents,text,image', 'text', 'latents,text,image']) {
        const { badRows, losses, told } = await run(`bad ${cache} ${Math.random()}`, { ...data, cache });
        expect(sorted(badRows)).toEqual(sorted(without.badRows));
        expect(told.filter((message) => message.startsWith('Skipped'))).toHaveLength(3);
        expectClose(losses, without.losses, 2e-3);
      }
    } finally {
      own.remove();
    }
  });

  it('ends while it fills the cache when asked to', async () => {
    const abort = new AbortController();
    abort.abort();
    const start = train(
      {
        ...world.optionsFor('aborted'),
        cache: 'latents',
      },
      { signal: abort.signal },
    );
    await expect(start).rejects.toBe(abort.signal.reason);
  });

  it('refuses what is no part', async () => {
    await expect(run('wrong', { cache: 'latents,vae' })).rejects.toThrow(
      /^cache is "latents,vae"; it must be one of latents, image, text$/,
    );
  });
});
