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
    const expected = { batchSize: 4, learningRate: 1e-5, maxSteps: 10, resume: true };
    expect(read('# mine\nbatchSize: 4\nlearning_rate: 1e-5\nmax-steps: 10\nresume: true\n').options).toEqual(
      expected,
    );
    expect(read(JSON.stringify(expected)).options).toEqual(expected);
    expect(read(JSON.stringify(expected, null, '\t')).options).toEqual(expected);
    expect(read('scales: [0, 0.5]', evaluateOptionsSchema).options).toEqual({ scales: [0, 0.5] });
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
      'batch_size: 4\nseed: 1\nbatchSize: 8\n',
      /batch_size in .*run\.yaml:1:13 and batchSize in .*run\.yaml:3:1 are the same option; give one of them$/,
    );
    refuses('seed: 1\nseed: 1\n', /run\.yaml:2:1 is not YAML or JSON: .*unique/);
  });

  it('names the place of what is not YAML, or no mapping', () => {
    refuses('seed: 1\nlearning_rate: [1\n', /run\.yaml:\d+:\d+ is not YAML or JSON: /);
    refuses('{"seed": 1,,}', /run\.yaml:1:12/);
    refuses('- seed: 1\n', /run\.yaml:1:1 is not a mapping; it must have options such as batch_size: 8/);
    expect(() => readOptionsFile(join(root, 'none.yaml'), trainOptionsSchema)).toThrow(
      /^--config is .*none\.yaml, which cannot be read: ENOENT/,
    );
  });

  it('tells where a wrong value is', () => {
    const { options, places } = read('seed: 1\nlearning_rate: fast\nbatch_size:\n');
    const resolve = () => resolveOptions(trainOptionsSchema, options, (key) => places.get(key) ?? key);
    expect(resolve).toThrow(/^learning_rate in .*run\.yaml:2:16 is "fast"; it must be a number above 0$/m);
    expect(resolve).toThrow(
      /^batch_size in .*run\.yaml:3:\d+ is null; it must be a whole number from 1 to /m,
    );
  });
});

describe('optionsYaml', () => {
  const required = {
    model: 'org/name',
    imageEncoder: 'encoder: 1',
    dataset: 'a.json',
    datasetRoot: 'no',
  };

  it('writes what is read as the same', () => {
    const options = { ...required, cache: 'latents,text', learningRate: 1e-8, maxSteps: 3 };
    const resolved = resolveOptions(trainOptionsSchema, options);
    const again = read(optionsYaml(resolved)).options;
    expect(resolveOptions(trainOptionsSchema, again)).toEqual(resolved);
    expect(again).toMatchObject({ cache: ['latents', 'text'], learningRate: 1e-8, epochs: 100 });
    expect(again).not.toHaveProperty('device');
  });

  it('has names and values that older YAML takes for the same', () => {
    expect(optionsYaml({ mixedPrecision: 'no', batchSize: 8 })).toBe(
      'mixed_precision: "no"\nbatch_size: 8\n',
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

describe('YAML that means nothing', () => {
  it.each([
    [
      'an alias without an anchor',
      'seed: *x\n',
      /^(.*run\.yaml:1:7|seed in .*run\.yaml:1:7) .*[Uu]nresolved alias/,
    ],
    ['an alias before its anchor', 'cache: [*x]\nresume: &x true\n', /run\.yaml:1:\d.*[Uu]nresolved alias/],
    [
      'aliases that grow without end',
      `cache: [&a [x,x,x,x,x,x,x,x,x,x],&b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a],&c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b],*c]\n`,
      /^cache in .*run\.yaml:1:8 cannot be read: .*alias count/,
    ],
    ['a bad merge', '%YAML 1.1\n---\nseed: 1\n<<: 3\n', /run\.yaml:4:1/],
    [
      'a bad merge inside',
      '%YAML 1.1\n---\nresume: {<<: 3}\n',
      /^resume in .*run\.yaml:3:9 cannot be read: .*[Mm]erge/,
    ],
    ['an alias as a name', 'a: &x seed\n*x : 1\n', /Unknown option \*x in .*run\.yaml:2:1/],
    ['a list as a name', '? [seed]\n: 1\n', /Unknown option \[seed\] in .*run\.yaml:1:3/],
    [
      'a prototype',
      '__proto__: 1\nconstructor: 2\n',
      /Unknown option __proto__ .*\nUnknown option constructor /,
    ],
  ])('%s is refused with its place', (_, text, message) => refuses(text, message));

  it('takes aliases that mean something', () => {
    expect(read('seed: &s 3\nepochs: *s\n').options).toEqual({ seed: 3, epochs: 3 });
  });
});
