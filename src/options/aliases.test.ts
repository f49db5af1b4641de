import { homedir } from 'node:os';
import { describe, expect, it } from 'vitest';
import { ConfigError } from '../base/errors.js';
import { aliases, aliasesOf, resolveAliases } from './aliases.js';
import { checkOptionsSchema } from './check-options.js';
import { embedOptionsSchema } from './embed-options.js';
import { evaluateOptionsSchema } from './evaluate-options.js';
import { adapterEntries, generateOptionsSchema, weighted } from './generate-options.js';
import { flagOf, resolveOptions } from './options.js';
import type { References } from './reference-types.js';
import { trainOptionsSchema } from './train-options.js';

const schemas = {
  train: trainOptionsSchema,
  generate: generateOptionsSchema,
  evaluate: evaluateOptionsSchema,
  embed: embedOptionsSchema,
  check: checkOptionsSchema,
};

/** All options of the original's scripts, tutorial_train*.py, but for its launcher's. */
const originals =
  'pretrained_model_name_or_path pretrained_ip_adapter_path num_tokens data_json_file data_root_path image_encoder_path output_dir logging_dir resolution learning_rate weight_decay num_train_epochs train_batch_size noise_offset dataloader_num_workers save_steps mixed_precision report_to';

/** The options of version 0.1 that are called otherwise now. */
const earlier = {
  train:
    'pretrainedModelNameOrPath pretrainedIpAdapterPath imageEncoderPath dataJsonFile dataRootPath numTrainEpochs maxTrainSteps trainBatchSize validationImage validationPrompt',
  generate: 'image imageWeight start end',
  evaluate: 'dataJsonFile dataRootPath scale start end',
  check: 'dataJsonFile dataRootPath trainBatchSize pretrainedModelNameOrPath',
};

describe('aliases', () => {
  it('every one stands for an option of some command, and is no option there', () => {
    const used = Object.values(schemas).flatMap((schema) => aliasesOf(schema).map(([name]) => name));
    expect(new Set(used)).toEqual(new Set(aliases.keys()));
  });

  it('takes every option of the original', () => {
    const camel = (name: string) => name.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
    const known = [
      ...Object.keys(trainOptionsSchema.shape),
      ...aliasesOf(trainOptionsSchema).map(([n]) => n),
    ];
    for (const name of originals.split(' ')) expect(known).toContain(camel(name));
  });

  it.each(Object.entries(earlier))('takes the names that 0.1 had for %s', (command, names) => {
    const known = new Map(aliasesOf(schemas[command as keyof typeof schemas]));
    for (const name of names.split(' ')) expect([name, known.has(name)]).toEqual([name, true]);
  });

  it('gives the same as the option itself, in a call', () => {
    const rest = { imageEncoder: 'e', dataset: 'd.json' };
    expect(
      resolveOptions(trainOptionsSchema, { ...rest, pretrainedModelNameOrPath: 'm', maxTrainSteps: 3 }),
    ).toEqual(resolveOptions(trainOptionsSchema, { ...rest, model: 'm', maxSteps: 3 }));
    const { range, images } = resolveOptions(generateOptionsSchema, {
      model: 'm',
      image: ['a.png'],
      start: 0.2,
    });
    expect([range, images]).toEqual([[0.2, 1], ['a.png']]);
    expect(resolveOptions(generateOptionsSchema, { model: 'm', end: 0.5 }).range).toEqual([0, 0.5]);
    expect(resolveOptions(generateOptionsSchema, { model: 'm', end: 0.5, start: 0.5 }).range).toEqual([
      0.5, 0.5,
    ]);
  });

  it.each([
    [{ batchSize: 1, trainBatchSize: 2 }, 'batchSize and trainBatchSize'],
    [{ trainBatchSize: 2, batchSize: 1 }, 'trainBatchSize and batchSize'],
  ])('refuses %o, and names both', (options, names) => {
    expect(() => resolveOptions(trainOptionsSchema, options)).toThrow(ConfigError);
    expect(() => resolveOptions(trainOptionsSchema, options)).toThrow(
      `${names} are the same option; give one of them`,
    );
  });

  it.each([
    { start: 0, range: [0, 1] },
    { range: [0, 1], end: 1 },
    { start: 0, end: 1, range: [0, 1] },
  ])('refuses a list beside an alias of its element: %o', (options) => {
    expect(() => resolveAliases(generateOptionsSchema, options, flagOf)).toThrow(
      /(--range and --(start|end)|--(start|end) and --range) are the same option/,
    );
  });

  it('what is undefined is not given', () => {
    expect(resolveAliases(trainOptionsSchema, { batchSize: undefined, trainBatchSize: 2 })).toEqual({
      batchSize: 2,
    });
    expect(resolveAliases(trainOptionsSchema, { trainBatchSize: undefined, batchSize: 2 })).toEqual({
      batchSize: 2,
    });
  });
});

describe('resolveOptions', () => {
  const call = (options: unknown) => () => resolveOptions(generateOptionsSchema, options);

  it.each(['constructor', '__proto__', 'toString', 'hasOwnProperty'])('does not know %s', (name) => {
    const options = JSON.parse(`{"model": "m", "${name}": 1}`);
    expect(call(options)).toThrow(`Unknown option ${name}`);
  });

  it.each([null, 3, 'model', [], undefined])('refuses %o for options', (options) => {
    expect(call(options)).toThrow(ConfigError);
  });

  it.each([
    [{ device: 'cuda:0,cuda:1' }, 'device is "cuda:0,cuda:1"; it must be cpu, cuda or cuda:N'],
    [{ dtype: 'int8' }, 'dtype is "int8"; it must be one of float32, float16, bfloat16'],
    [{ prompt: 3 }, 'prompt is 3; it must be text'],
    [{ end: 2 }, /^end is 2; it must be a number from 0 to 1$/],
    [{ start: 0.5, end: 0.2 }, 'range is [0.5,0.2]; it must not end before it starts'],
    [{ image: 3 }, 'image is 3; it must be a list of images'],
    [{ range: [0.5, 0.2] }, 'range is [0.5,0.2]; it must not end before it starts'],
    [{ range: [0.5] }, 'range is [0.5]; it must be two numbers, [start, end]'],
    [{ steps: Number.NaN }, 'steps is NaN; it must be a whole number from 1 to 10,000'],
    [{ adapters: [{ adapter: 'a', scale: -1 }] }, 'adapters[0].scale is -1; it must be a number from 0 to'],
    [{ weights: [1, -1] }, 'weights[1] is -1; it must be a number from 0 to 1,000,000,000'],
  ])('says of %o what it takes', (options, message) => {
    expect(call({ model: 'm', ...options })).toThrow(message);
  });

  it('names a list that was split as it was given', () => {
    const options = { model: 'm', imageEncoder: 'e', dataset: 'd' };
    const cached = (cache: unknown) => () => resolveOptions(trainOptionsSchema, { ...options, cache });
    expect(cached('latents,vae')).toThrow('cache is "latents,vae"; it must be one of latents, image, text');
    expect(cached(['vae'])).toThrow('cache[0] is "vae"; it must be one of latents, image, text');
  });

  it('an absent negative prompt is absent, and an empty one is empty', () => {
    expect(call({ model: 'm' })().negativePrompt).toBeUndefined();
    expect(call({ model: 'm', negativePrompt: '' })().negativePrompt).toBe('');
  });

  it('~ at the start of a path is the home folder', () => {
    const { model, images, dataset } = {
      ...resolveOptions(generateOptionsSchema, { model: '~/models/sd', images: ['~', 'a~', '~b/c'] }),
      ...resolveOptions(checkOptionsSchema, { dataset: '~/data.json' }),
    };
    expect([model, images, dataset]).toEqual([
      `${homedir()}/models/sd`,
      [homedir(), 'a~', '~b/c'],
      [`${homedir()}/data.json`],
    ]);
  });
});

describe('numbers at their limits', () => {
  const required = {
    model: 'm',
    imageEncoder: 'e',
    adapter: 'a',
    dataset: 'd',
    images: ['i'],
    out: 'o.safetensors',
  };
  const numeric = Object.entries(schemas).flatMap(([command, schema]) =>
    Object.keys(schema.shape).map((key) => [command, key] as const),
  );

  it.each(numeric)('%s: %s is taken or refused by name', (command, key) => {
    const schema = schemas[command as keyof typeof schemas];
    const own = Object.fromEntries(Object.entries(required).filter(([name]) => name in schema.shape));
    for (const value of [
      -1,
      0,
      0.5,
      1,
      1e5,
      1e9 + 1,
      2 ** 53,
      1e308,
      Number.NaN,
      Infinity,
      -Infinity,
      [1e5, 1e5],
    ]) {
      try {
        resolveOptions(schema, { ...own, [key]: value });
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        expect((error as Error).message).toMatch(new RegExp(`^${key}(\\[\\d\\])? is .*; it must `));
      }
    }
  });

  it.each([
    ['width', 100_000],
    ['height', 100_000],
    ['steps', 1_000_000_000],
    ['numImages', 1_000_000_000],
    ['batchSize', 0],
    ['seed', 2 ** 53],
    ['seed', -1],
    ['threads', 100_000_000],
    ['guidanceScale', 1e300],
    ['scale', 1e300],
  ])('generate refuses %s %d', (key, value) => {
    expect(() => resolveOptions(generateOptionsSchema, { model: 'm', [key]: value })).toThrow(
      new RegExp(`^${key} is .*; it must be`),
    );
  });
});

describe('adapters', () => {
  it('are a list, or the short forms of one', () => {
    const entries = (options: References & { adapters?: References[] }) =>
      adapterEntries<References>(options, ['images', 'scale']);
    expect(entries({ images: ['a'], scale: 1 })).toEqual([{ images: ['a'], scale: 1 }]);
    expect(entries({ adapters: [{ scale: 1 }, { scale: 2 }] })).toHaveLength(2);
    expect(entries({})).toEqual([]);
    expect(() => entries({ adapters: [{ scale: 1 }], scale: 2 })).toThrow(/adapters and scale/);
  });

  it('have a weight for each image, or none', () => {
    expect(weighted({ images: ['a', 'b'], weights: [1, 2] })).toEqual([
      { image: 'a', weight: 1 },
      { image: 'b', weight: 2 },
    ]);
    expect(weighted({ images: ['a'] })).toEqual([{ image: 'a', weight: 1 }]);
    expect(() => weighted({ images: ['a'], weights: [1, 2] })).toThrow(/2 values for 1 --images/);
  });
});
