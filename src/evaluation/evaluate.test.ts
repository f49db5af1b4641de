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
import { Generator, memoryStats, randn, type Tensor } from '../torch/index.js';
import { evaluate } from './evaluate.js';

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

  it('compares adapters image by image, with scale 0 once', async () => {
    const other = join(world.root, 'other.safetensors');
    const weights = readAdapter(world.adapter);
    const doubled = [...weights].map(([key, value]): [string, Tensor] => [key, value.mul(2)]);
    writeAdapter(other, new Map(doubled));
    const { scores, differences } = await evaluate({ ...options, adapter: [world.adapter, other] });
    expect(scores.map(({ adapter, scale }) => [adapter, scale])).toEqual([
      [null, 0],
      [world.adapter, 1],
      [other, 1],
    ]);
    const [difference, ...rest] = differences;
    expect(rest).toEqual([]);
    expect(difference).toMatchObject({ adapter: other, over: world.adapter, scale: 1 });
    const gap = (scores[2]?.clipI as number) - (scores[1]?.clipI as number);
    expect(gap).not.toBe(0);
    expect(difference?.differences.clipI.mean).toBeCloseTo(gap, 10);
    // Pairs share most of their spread: the same images of an adapter differ by nothing.
    const same = await evaluate({ ...options, adapter: [world.adapter, world.adapter], scales: [1] });
    expect(same.differences[0]?.differences.clipI).toEqual({ mean: 0, low: 0, high: 0 });
  });

  it('draws another row’s reference where a caption says something, and else takes the other image', async () => {
    const draw = { ...options, scales: [1] };
    const { onEvent, progress } = new Recorder();
    const captioned = await evaluate({ ...draw, text: 'caption' }, { onEvent });
    expect(progress.at(-1)).toEqual([6, 6]);
    const plain = await evaluate(draw);
    for (const { scores } of [captioned, plain])
      expect(scores[0]?.shuffled?.clipI.mean).not.toBe(scores[0]?.clipI);
    // Over three rows, the mean to the other two lies between those of the next and the one before.
    expect(plain.scores[0]?.shuffled?.clipI.mean).toBeCloseTo(plain.scores[0]?.clipIOthers as number, 1);
  });

  it('scores with DINO where an encoder is given, and warns of the encoder that the adapter reads', async () => {
    const { messages, onEvent } = new Recorder();
    const { scores } = await evaluate(
      { ...options, scales: [1], dinoEncoder: world.imageEncoder },
      { onEvent },
    );
    expect(scores[0]?.dino).toBe(scores[0]?.clipI);
    expect(messages.filter((text) => text.includes('favours')).map((text) => text.slice(0, 6))).toEqual([
      'CLIP-I',
      'DINO i',
    ]);
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
    writeAdapter(adapter, readAdapter(world.adapter), { clipSkip: 1 });
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
