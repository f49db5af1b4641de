import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { ConfigError } from '../base/errors.js';
import { evaluateOptionsSchema } from './evaluate-options.js';
import { resolveOptions } from './options.js';
import { optionsYaml, readOptionsFile } from './options-file.js';
import { trainOptionsSchema } from './train-options.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-config-'));
afterAll(() => rmSync(root, { recursive: true }));
const written = (text: string, name = 'run.yaml'): string => {
  const file = join(root, name);
  writeFileSync(file, text);
  return file;
};
const read = (text: string, schema: Parameters<typeof readOptionsFile>[1] = trainOptionsSchema) =>
  readOptionsFile(written(text), schema);
const refuses = (text: string, message: RegExp) => {
  expect(() => read(text)).toThrow(ConfigError);
  expect(() => read(text)).toThrow(message);
};

describe('readOptionsFile', () => {
  it('takes names as in the library and as the flags, from YAML and JSON', () => {
    const expected = { trainBatchSize: 4, learningRate: 1e-5, maxTrainSteps: 10, resume: true };
    expect(
      read('# mine\ntrainBatchSize: 4\nlearning_rate: 1e-5\nmax-train-steps: 10\nresume: true\n').options,
    ).toEqual(expected);
    expect(read(JSON.stringify(expected)).options).toEqual(expected);
    expect(read(JSON.stringify(expected, null, '\t')).options).toEqual(expected);
    expect(read('scale: [0, 0.5]', evaluateOptionsSchema).options).toEqual({ scale: [0, 0.5] });
    expect(read('# nothing yet\n').options).toEqual({});
  });

  it('does not take no for false', () => {
    expect(read('mixed_precision: no').options).toEqual({ mixedPrecision: 'no' });
  });

  it('names the place of an unknown name, and the name that is near, spelt the same way', () => {
    refuses(
      'seed: 1\n\nlerning_rate: 1\n',
      /^Unknown option lerning_rate in .*run\.yaml:3:1; did you mean learning_rate\?$/,
    );
    refuses('lerning-rate: 1', /Unknown option lerning-rate .*; did you mean learning-rate\?$/);
    refuses('{"seed": 1,\n "lerningRate": 1}', /run\.yaml:2:2; did you mean learningRate\?$/);
    refuses('colour: red', /^Unknown option colour in .*run\.yaml:1:1$/);
    refuses('a_b: 1\nsed: 1\n', /a_b in .*:1:1\nUnknown option sed in .*:2:1; did you mean seed\?$/);
  });

  it('takes an option once only', () => {
    refuses(
      'train_batch_size: 4\nseed: 1\ntrainBatchSize: 8\n',
      /Expected trainBatchSize once but .*run\.yaml:1:19 has it before .*run\.yaml:3:1$/,
    );
    refuses('seed: 1\nseed: 1\n', /run\.yaml:2:1 but .*unique/);
  });

  it('names the place of what is not YAML, or no mapping', () => {
    refuses('seed: 1\nlearning_rate: [1\n', /Expected YAML or JSON in .*run\.yaml:\d+:\d+ but /);
    refuses('{"seed": 1,,}', /run\.yaml:1:12/);
    refuses('- seed: 1\n', /Expected options such as train_batch_size: 8 in .*run\.yaml:1:1 but it is no/);
    expect(() => readOptionsFile(join(root, 'none.yaml'), trainOptionsSchema)).toThrow(
      /Expected a YAML or JSON file for --config but .*none\.yaml cannot be read: ENOENT/,
    );
  });

  it('tells where a wrong value is', () => {
    const { options, places } = read('seed: 1\nlearning_rate: fast\ntrain_batch_size:\n');
    const resolve = () => resolveOptions(trainOptionsSchema, options, places);
    expect(resolve).toThrow(
      /Expected --learning-rate \(learningRate\) to be right in .*run\.yaml:2:16 but received "fast": /,
    );
    expect(resolve).toThrow(/\(trainBatchSize\) to be right in .*run\.yaml:3:\d+ but received null: /);
  });
});

describe('optionsYaml', () => {
  const required = {
    pretrainedModelNameOrPath: 'org/name',
    imageEncoderPath: 'encoder: 1',
    dataJsonFile: 'a.json',
    dataRootPath: '',
  };

  it('writes what is read as the same', () => {
    const options = { ...required, cache: 'latents,text', learningRate: 1e-8, maxTrainSteps: 3 };
    const resolved = resolveOptions(trainOptionsSchema, options);
    const again = read(optionsYaml(resolved)).options;
    expect(resolveOptions(trainOptionsSchema, again)).toEqual(resolved);
    expect(again).toMatchObject({ cache: ['latents', 'text'], learningRate: 1e-8, numTrainEpochs: 100 });
    expect(again).not.toHaveProperty('device');
  });

  it('has names and values that older YAML takes for the same', () => {
    expect(optionsYaml({ mixedPrecision: 'no', trainBatchSize: 8 })).toBe(
      'mixed_precision: "no"\ntrain_batch_size: 8\n',
    );
  });
});

describe('an unknown option of a call', () => {
  it('is told with the one that is near', () => {
    const call = (options: object) => () => resolveOptions(trainOptionsSchema, options);
    expect(call({ lerningRate: 1, xyz: 1 })).toThrow(
      /Unknown option lerningRate; did you mean learningRate\?\nUnknown option xyz$/m,
    );
  });
});
