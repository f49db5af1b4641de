import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type Adapted, makeAdaptedWorld } from '../../test/e2e/adapted-world.js';
import { Recorder } from '../../test/recorder.js';
import { readAdapter, writeAdapter } from '../adapters/adapter-file.js';
import { ConfigError, DatasetError } from '../base/errors.js';
import type { RunEvent } from '../base/run-context.js';
import { readSafetensors, writeSafetensors } from '../formats/index.js';
import type { EvaluateOptions } from '../options/generate-types.js';
import { Generator, memoryStats, randn, type Tensor, tensor } from '../torch/index.js';
import { evaluate, measure } from './evaluate.js';

describe('measure', () => {
  const half = Math.SQRT1_2;
  // Three prompts at right angles; the third image looks like the first prompt.
  const prompts = tensor([1, 0, 0, 0, 1, 0, 0, 0, 1], [3, 3]);
  const drawn = tensor([1, 0, 0, 0, half, half, half, 0, half], [3, 3]);

  it('is the mean cosine to the own prompt, to the others and to the caption', () => {
    const { clipI, clipIOthers, clipT, clipScore } = measure(drawn, prompts, prompts, 1);
    expect(clipI).toBeCloseTo((1 + half + half) / 3, 6);
    expect(clipIOthers).toBeCloseTo((half + half) / 6, 6);
    expect(clipT).toBeCloseTo(clipI, 6);
    expect(clipScore).toBeCloseTo(2.5 * clipI, 6);
    const opposite = tensor([-1, 0, 0, 0, -1, 0, 0, 0, 1], [3, 3]);
    expect(measure(opposite, prompts, prompts, 1).clipScore).toBeCloseTo(2.5 / 3, 6);
    expect(measure(drawn, prompts, null, 1).clipT).toBeNull();
  });

  it('counts the images that are closest to their own prompt', () => {
    const nearer = tensor([1, 0, 0, 0, 0.8, 0.6, 0.8, 0, 0.6], [3, 3]);
    expect(measure(nearer, prompts, null, 1).retrievalTop1).toBeCloseTo(2 / 3, 6);
    expect(measure(prompts, prompts, null, 1).retrievalTop1).toBe(1);
  });

  it('assigns several images of a row by their order', () => {
    const twice = tensor([1, 0, 1, 0, 0, 1, 0, 1], [4, 2]);
    const { clipI, retrievalTop1 } = measure(twice, tensor([1, 0, 0, 1], [2, 2]), null, 2);
    expect([clipI, retrievalTop1]).toEqual([1, 1]);
  });
});

describe('evaluate', () => {
  let world: Adapted;
  let options: EvaluateOptions;
  beforeAll(async () => {
    world = await makeAdaptedWorld();
    options = {
      model: world.model,
      imageEncoder: world.imageEncoder,
      adapter: world.adapter,
      dataset: join(world.root, 'data.json'),
      datasetRoot: join(world.root, 'images'),
      maxRows: 3,
      steps: 2,
      width: 64,
      height: 64,
    };
  });
  afterAll(() => world.remove());

  it('gives the same scores again, and the same in batches', async () => {
    const { progress, onEvent } = new Recorder();
    const first = await evaluate({ ...options, batchSize: 2 }, { onEvent });
    expect(progress).toEqual(Array.from({ length: 12 }, (_, i) => [i + 1, 2 * 2 * 3]));
    expect(first.scores.map(({ scale }) => scale)).toEqual([0, 1]);
    expect(first.scores[0]?.clipI).not.toBe(first.scores[1]?.clipI);
    expect(first.rows).toBe(3);
    const again = await evaluate({ ...options, batchSize: 2 });
    expect(again).toEqual(first);
    const one = await evaluate({ ...options, batchSize: 1, scales: [1] });
    expect(one.scores[0]?.clipI).toBeCloseTo(first.scores[1]?.clipI as number, 4);
  });

  it('measures with another encoder where one is given', async () => {
    const other = join(world.root, 'other encoder');
    cpSync(world.imageEncoder, other, { recursive: true });
    const { tensors } = readSafetensors(join(world.imageEncoder, 'model.safetensors'));
    const key = 'visual_projection.weight';
    const generator = new Generator('cpu', 5);
    tensors.set(key, randn((tensors.get(key) as Tensor).shape, { generator }));
    writeSafetensors(join(other, 'model.safetensors'), tensors);
    const drawn = { ...options, scales: [1] };
    const [own, others] = [await evaluate(drawn), await evaluate({ ...drawn, metricEncoder: other })];
    expect([own.metricEncoder, others.metricEncoder]).toEqual([world.imageEncoder, other]);
    expect(others.scores[0]?.clipI).not.toBeCloseTo(own.scores[0]?.clipI as number, 3);

    // Without a text encoder that goes with it nothing is said of captions.
    expect(own.scores[0]?.clipT).toBeNull();
    const text = join(world.root, 'metric', 'text');
    for (const [from, to] of [
      ['text_encoder', text],
      ['tokenizer', join(text, '../tokenizer')],
    ] as const)
      cpSync(join(world.model, from), to, { recursive: true });
    const weights = readSafetensors(join(world.model, 'text_encoder', 'model.safetensors')).tensors;
    const [width = 0] = (tensors.get(key) as Tensor).shape;
    weights.set('text_projection.weight', randn([width, 32], { generator }));
    rmSync(join(text, 'model.safetensors'));
    writeSafetensors(join(text, 'model.safetensors'), weights);
    const [score] = (await evaluate({ ...drawn, metricTextEncoder: text })).scores;
    expect(score?.clipI).toBe(own.scores[0]?.clipI);
    expect(Math.abs(score?.clipT as number)).toBeLessThan(1);
  });

  it('draws with every option of generation, and tells each warning once', async () => {
    const adapter = join(world.root, 'skipped.safetensors');
    writeAdapter(adapter, readAdapter(world.adapter), 1);
    const captioned = { ...options, adapter, text: 'caption' as const, batchSize: 2, scales: [0.5, 1] };
    const { scores } = await evaluate({ ...captioned, clipSkip: 1 });
    const { messages, onEvent } = new Recorder();
    const others = await evaluate(captioned, { onEvent });
    expect(scores[0]?.clipI).not.toBe(others.scores[0]?.clipI);
    expect(messages.filter((text) => text.includes('clip skip'))).toEqual([
      `${adapter} was trained with a clip skip of 1, and --clip-skip (clipSkip) is 0.`,
    ]);
    await expect(evaluate({ ...options, targetSize: [64, 64] })).rejects.toThrow(/targetSize/);
  });

  it('refuses a single row', async () => {
    const dataset = join(world.root, 'one.json');
    writeFileSync(dataset, JSON.stringify([{ image_file: '0.png', text: 'a' }]));
    await expect(evaluate({ ...options, dataset })).rejects.toThrow(
      /^Expected 2 rows or more in .*one.json but there is 1: retrieval is among their images$/,
    );
  });

  it('generates several images of a row, with captions, and keeps nothing in memory', async () => {
    const before = memoryStats().liveTensors;
    const { scores } = await evaluate({ ...options, imagesPerRow: 2, text: 'caption', scales: [0.5] });
    expect(scores).toHaveLength(1);
    expect(scores[0]?.clipT).toBeNull();
    expect(memoryStats().liveTensors).toBe(before);
  });

  it('names what is at fault', async () => {
    const attempt = (change: object) => evaluate({ ...options, ...change } as EvaluateOptions);
    await expect(attempt({ adapter: undefined })).rejects.toThrow(/^adapter is required/);
    await expect(attempt({ scales: [] })).rejects.toThrow(ConfigError);
    await expect(attempt({ dataset: 'none.json' })).rejects.toThrow(DatasetError);
    const reason = new Error('enough');
    await expect(evaluate(options, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });

  it('ends with the error of a hook that throws, and keeps nothing in memory', async () => {
    await evaluate(options);
    const before = memoryStats().liveTensors;
    const wrong = new Error('mine');
    const onEvent = (event: RunEvent) => {
      if (event.type === 'progress' && event.done === 5) throw wrong;
    };
    await expect(evaluate(options, { onEvent })).rejects.toBe(wrong);
    expect(memoryStats().liveTensors).toBe(before);
  });
});
