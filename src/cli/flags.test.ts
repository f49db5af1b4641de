import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { afterAll, expect, it } from 'vitest';
import { generateOptionsSchema } from '../options/generate-options.js';
import { trainOptionsSchema } from '../options/train-options.js';
import { addFlags, resolveFlags } from './flags.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-flags-'));
afterAll(() => rmSync(root, { recursive: true }));
const written = (text: string): string => {
  const file = join(root, 'run.yaml');
  writeFileSync(file, text);
  return file;
};
const generate = (text: string, flags: Record<string, unknown>) =>
  resolveFlags(generateOptionsSchema, { model: 'm', config: written(text), ...flags });

it('a flag wins over the file, by whatever names', () => {
  const file = written('train_batch_size: 3\nmax_steps: 4\ndataset: d\nmodel: m\nimage_encoder: e\n');
  const { batchSize, maxSteps } = resolveFlags(trainOptionsSchema, {
    config: file,
    batchSize: 5,
    maxTrainSteps: 6,
  });
  expect([batchSize, maxSteps]).toEqual([5, 6]);
});

it('of a list with an alias for each element, flag and file may give one each', () => {
  expect(generate('start: 0.2\n', { end: 0.5 }).range).toEqual([0.2, 0.5]);
  expect(generate('start: 0.2\nend: 0.3\n', { end: 0.5 }).range).toEqual([0.2, 0.5]);
  expect(generate('start: 0.2\nend: 0.3\n', { range: [0, 1] }).range).toEqual([0, 1]);
  expect(() => generate('range: [0, 0.5]\n', { start: 0.2 })).toThrow(
    /^range in .*run\.yaml:1:8 and --start are the same option; give one of them$/,
  );
});

it('names what is wrong as it is written', () => {
  const file = written('train_batch_size: 0\n');
  const required = { model: 'm', imageEncoder: 'e', dataset: 'd' };
  expect(() => resolveFlags(trainOptionsSchema, { ...required, config: file })).toThrow(
    /^train_batch_size in .*run\.yaml:1:19 is 0; it must be/,
  );
  expect(() => resolveFlags(trainOptionsSchema, { ...required, trainBatchSize: 0 })).toThrow(
    /^--train-batch-size is 0; it must be/,
  );
  expect(() => resolveFlags(trainOptionsSchema, { trainBatchSize: 1, batchSize: 1 })).toThrow(
    '--train-batch-size and --batch-size are the same option; give one of them',
  );
  expect(() => generate('start: 7\n', {})).toThrow(
    /^start in .*run\.yaml:1:8 is 7; it must be a number from 0 to 1$/,
  );
});

it('reads scales by block as JSON', () => {
  const scalesOf = (text: string): unknown => {
    const command = new Command('generate').exitOverride();
    addFlags(command, generateOptionsSchema);
    command.parse(['--model', 'm', '--block-scales', text], { from: 'user' });
    return resolveFlags(generateOptionsSchema, command.opts()).blockScales;
  };
  expect(scalesOf('{"up": {"block_0": [0, 1, 0]}, "mid": 0.5}')).toEqual({
    up: { block_0: [0, 1, 0] },
    mid: 0.5,
  });
  expect(() => scalesOf('{up')).toThrow(/^--block-scales is "\{up"; it must be an object such as/);
});
