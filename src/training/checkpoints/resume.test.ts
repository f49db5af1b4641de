import { describe, expect, it } from 'vitest';
import { trainOptionsSchema } from '../../options/train-options.js';
import type { TrainOptions } from '../../options/train-types.js';
import type { TrainingState } from './checkpoint.js';
import { assertSameRun } from './resume.js';

const root = '/data';
const rows = { rows: 3, fingerprint: 'a hash' };

function stateOf(
  options: Partial<TrainOptions> = {},
  dataset = rows,
): Pick<TrainingState, 'dataset' | 'options'> {
  const all = trainOptionsSchema.parse({
    model: 'model',
    imageEncoder: 'encoder',
    dataset: 'data.json',
    datasetRoot: root,
    ...options,
  });
  // As JSON keeps it: what is undefined is not there.
  return { dataset, options: JSON.parse(JSON.stringify(all)) };
}

/** What is said of a change: messages, then the error. */
function said(before: Partial<TrainOptions>, now: Partial<TrainOptions>, rowsNow = rows): string[] {
  const messages: string[] = [];
  const context = {
    path: 'out/checkpoint-1',
    onMessage: (text: string) => void messages.push(text),
  };
  try {
    assertSameRun(stateOf(before), stateOf(now, rowsNow), context);
  } catch (error) {
    messages.push(`${(error as Error).name}: ${(error as Error).message}`);
  }
  return messages;
}

describe('options', () => {
  it('says nothing where none has changed, or only those that change no step', () => {
    expect(said({}, {})).toEqual([]);
    expect(
      said(
        { maxSteps: 10 },
        { outputDir: 'other', saveSteps: 5, maxSteps: 20, epochs: 7, threads: 1, cacheDir: 'x' },
      ),
    ).toEqual([]);
    expect(said({}, { checkpointsTotalLimit: 3, maxNanSteps: 2, dataloaderNumWorkers: 4 })).toEqual([]);
  });

  it('goes on with another learning rate, decay, cache or model path, and says so with both values', () => {
    expect(said({ learningRate: 1e-3 }, { learningRate: 5e-4, cache: 'text,image' })).toEqual([
      '--learning-rate is 0.0005 but out/checkpoint-1 was trained with 0.001; continuing with 0.0005',
      '--cache is text,image but out/checkpoint-1 was trained with none; continuing with text,image',
    ]);
    expect(said({ weightDecay: 0 }, { model: 'moved' })).toHaveLength(2);
  });

  it('refuses every other change, and names all of them at once', () => {
    const [error, ...more] = said(
      { numTokens: 16 },
      { seed: 1, numTokens: 4, resolution: 64, mixedPrecision: 'bf16' },
    );
    expect(more).toEqual([]);
    expect(error).toMatch(/^ConfigError: /);
    for (const difference of [
      '--seed is 1 but out/checkpoint-1 was trained with 0',
      '--num-tokens is 4 but out/checkpoint-1 was trained with 16',
      '--resolution is 64 but',
      '--mixed-precision is bf16 but out/checkpoint-1 was trained with no',
    ])
      expect(error).toContain(difference);
  });

  it('knows the options of a checkpoint by the names that they had in version 0.1', () => {
    const old = stateOf();
    const { model, imageEncoder, dataset, datasetRoot, batchSize, epochs, ...rest } = old.options;
    const { validationImages, validationPrompts, ...same } = rest;
    old.options = {
      ...same,
      ...{ pretrainedModelNameOrPath: model, imageEncoderPath: imageEncoder, dataJsonFile: dataset },
      ...{ dataRootPath: datasetRoot, trainBatchSize: batchSize, numTrainEpochs: epochs },
      ...{ validationImage: validationImages, validationPrompt: validationPrompts },
    };
    const context = { path: 'out/checkpoint-1', onMessage: (text: string) => expect(text).toBe('') };
    expect(() => assertSameRun(old, stateOf(), context)).not.toThrow();
    expect(() => assertSameRun(old, stateOf({ batchSize: 2 }), context)).toThrow(
      /--batch-size is 2 but out\/checkpoint-1 was trained with 8/,
    );
  });

  it('takes an option that the checkpoint does not know yet as its default', () => {
    const old = stateOf();
    delete old.options.mixedPrecision;
    const context = { path: 'out/checkpoint-1' };
    expect(() => assertSameRun(old, stateOf(), context)).not.toThrow();
    expect(() => assertSameRun(old, stateOf({ mixedPrecision: 'fp16' }), context)).toThrow(
      /--mixed-precision is fp16 .* trained with no/,
    );
  });
});

describe('dataset', () => {
  it('is the same by other names of its files and folders', () => {
    const { dataset, datasetRoot } = { dataset: 'moved.json', datasetRoot: '/moved' };
    expect(said({}, { dataset, datasetRoot, adapter: 'a.bin' })).toEqual([]);
  });

  it.each([
    ['rows', { rows: 4, fingerprint: 'another' }, 'it had 3 rows and has 4'],
    [
      'content',
      { rows: 3, fingerprint: 'another' },
      'it still has 3 rows, but their names, captions or order',
    ],
  ])('that has changed is refused in words that say how: %s', (_, now, words) => {
    const [error] = said({}, {}, now);
    expect(error).toMatch(/^ConfigError: The dataset is not the one that out\/checkpoint-1 was/);
    expect(error).toContain(words);
  });
});
