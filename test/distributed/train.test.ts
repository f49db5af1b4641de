/** @file Training in several processes gives what one process gives. */
import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { shuffledIndices } from '../../src/data/sampling.js';
import { makeWorld, stretchImages, type World } from '../e2e/world.js';
import { tarOf } from '../write-tar.js';
import { bytesOf, largestDifference, lossesOf, run, shareOfMovement, stepsOf, trainWords } from './runs.js';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 180_000 });

let world: World;
const at = (...parts: string[]): string => join(world.root, ...parts);

/** 14 rows and steps of 12: every other step has 2 rows, so that some processes have none. */
const options = {
  max_train_steps: 16,
  save_steps: 1,
  checkpoints_total_limit: undefined,
  max_grad_norm: 0.5,
};

/** Returns the image and the caption of a row as members of a shard. */
function member(picture: number): [string, string | Buffer][] {
  return [
    [`${picture}.png`, readFileSync(at('images', `${picture}.png`))],
    [`${picture}.txt`, `a picture ${picture}`],
  ];
}

/** Trains in so many processes. */
async function trained(processes: number): Promise<string> {
  const { exitCode, stderr } = await run(trainWords(world, `of-${processes}`, { ...options, processes }));
  expect(exitCode, stderr).toBe(0);
  return stderr;
}

let messagesOfTwo: string;
beforeAll(async () => {
  world = await makeWorld(14);
  await trained(1);
  messagesOfTwo = await trained(2);
});
afterAll(() => world.remove());

it.each([2, 3, 4])('%i processes give the losses and weights of one', async (processes) => {
  const name = `of-${processes}`;
  const stderr = processes === 2 ? messagesOfTwo : await trained(processes);
  expect(stderr).toContain(`a step takes 12 rows, ${12 / processes} × ${processes} processes`);
  expect(largestDifference(lossesOf(world, 'of-1'), lossesOf(world, name))).toBeLessThan(1e-6);
  const [one, other, start] = [
    at('of-1', 'checkpoint-16'),
    at(name, 'checkpoint-16'),
    at('of-1', 'checkpoint-1'),
  ];
  expect(shareOfMovement(one, other, start)).toBeLessThan(1e-4);
  // A step has the rows of all processes.
  expect(stepsOf(world, name).map(({ grad_norm }) => grad_norm)).toEqual(
    stepsOf(world, 'of-1').map(({ grad_norm }) => expect.closeTo(grad_norm, 4)),
  );
});

it('shards, accumulation, moving average, schedule and scaled learning rate: two processes give what one gives', async () => {
  // Two of the three are open at a time.
  for (const [shard, pictures] of [
    [0, 1, 2, 3, 4],
    [5, 6, 7],
    [8, 9, 10, 11, 12, 13],
  ].entries())
    writeFileSync(at(`${shard}.tar`), await tarOf(pictures.flatMap(member)));
  const changes = {
    ...{ data_json_file: undefined, data_root_path: undefined, dataset: at('{0..2}.tar'), open_shards: 2 },
    ...{ ...options, max_train_steps: 8, save_steps: 4, gradient_accumulation_steps: 2, rows: 4 },
    ...{ lr_scheduler: 'cosine', lr_warmup_steps: 3, learning_rate: 1e-4 },
  };
  for (const processes of [1, 2]) {
    const words = trainWords(world, `all-${processes}`, { ...changes, processes });
    const { exitCode, stderr } = await run([...words, '--use_ema', '--scale_lr']);
    expect(exitCode, stderr).toBe(0);
  }
  expect(largestDifference(lossesOf(world, 'all-1'), lossesOf(world, 'all-2'))).toBeLessThan(1e-6);
  const [one, other, start] = ['all-1/checkpoint-8', 'all-2/checkpoint-8', 'all-1/checkpoint-4'].map((name) =>
    at(name),
  ) as [string, string, string];
  for (const file of ['ip_adapter.safetensors', 'ip_adapter_ema.safetensors'])
    expect(shareOfMovement(one, other, start, file), file).toBeLessThan(1e-4);
});

it('resumes with another number of processes, and bit-exactly with the same', async () => {
  const words = (name: string, steps: number, processes: number, more = {}) =>
    trainWords(world, name, { ...options, max_train_steps: steps, save_steps: 4, processes, ...more });
  const half = await run(words('resumed', 4, 2));
  expect(half.exitCode, half.stderr).toBe(0);
  const same = await run(words('resumed', 8, 2, { resume: 'latest' }));
  expect(same.exitCode, same.stderr).toBe(0);
  for (const file of ['optimizer.safetensors', 'ip_adapter.safetensors'])
    expect(bytesOf(world, 'resumed', 8, file).equals(bytesOf(world, 'of-2', 8, file))).toBe(true);
  const other = await run(words('resumed', 16, 1, { resume: 'auto' }));
  expect(other.exitCode, other.stderr).toBe(0);
  expect(largestDifference(lossesOf(world, 'of-1'), lossesOf(world, 'resumed'))).toBeLessThan(1e-6);
  const refused = await run(words('resumed', 17, 3, { resume: 'auto', train_batch_size: 2 }));
  expect(refused.exitCode).toBe(2);
  expect(refused.stderr).toMatch(/A step takes 6 rows .* was trained with 12; use as many to resume/);
});

it('caches, buckets, unreadable images, validation, EMA: shared out, with the same result', async () => {
  const mixed = await makeWorld(9);
  try {
    await stretchImages(mixed, [
      [60, 90],
      [90, 60],
    ]);
    writeFileSync(join(mixed.root, 'images', '4.png'), 'not an image');
    await sharp({ create: { width: 70, height: 70, channels: 3, background: 'red' } }).toFile(
      join(mixed.root, 'images', '8.png'),
    );
    const all = {
      ...{ rows: 4, max_train_steps: 8, save_steps: 4, cache: 'latents,text', buckets: undefined },
      ...{ validation_image: join(mixed.root, 'images', '0.png'), validation_sampling_steps: 2 },
      ...{ num_validation_images: 2, validation_steps: 8, resolution: 128 },
    };
    const more = ['--buckets', '--use_ema', '--random_flip'];
    const texts: string[] = [];
    for (const [name, processes] of [
      ['one', 1],
      ['two', 2],
    ] as const) {
      const { exitCode, stderr } = await run([...trainWords(mixed, name, { ...all, processes }), ...more]);
      expect(exitCode, stderr).toBe(0);
      texts.push(stderr);
    }
    for (const text of texts) expect(text).toMatch(/Skipped \S*4\.png: /);
    expect(texts[1]).toMatch(/Cache of latents: complete, [1-9]\d* newly encoded/);
    expect(largestDifference(lossesOf(mixed, 'one'), lossesOf(mixed, 'two'))).toBeLessThan(1e-6);
    const [one, two] = await Promise.all(
      ['one', 'two'].map((name) =>
        sharp(join(mixed.root, name, 'validation', 'step-8.png'))
          .raw()
          .toBuffer(),
      ),
    );
    expect(one?.length).toBe(two?.length);
    expect(largestDifference([...(one as Buffer)], [...(two as Buffer)])).toBeLessThanOrEqual(2);
    // Each entry is in the cache once.
    const shards = (name: string) => readdirSync(join(mixed.root, name, 'cache'), { recursive: true });
    expect(shards('two').length).toBeGreaterThan(shards('one').length);
  } finally {
    mixed.remove();
  }
});

it('a batch of which no image can be read: skipped by two processes as by one', async () => {
  const broken = await makeWorld(8);
  try {
    // The second batch of the first epoch.
    for (const place of [2, 3])
      truncateSync(join(broken.root, 'images', `${shuffledIndices(0, 0, 8)[place]}.png`), 60);
    const stateOf = (name: string) => {
      const { step, epoch, position } = JSON.parse(
        bytesOf(broken, name, 5, 'training_state.json').toString(),
      );
      return { step, epoch, position };
    };
    for (const processes of [1, 2]) {
      const words = trainWords(broken, `of-${processes}`, { rows: 2, max_train_steps: 5, processes });
      const { exitCode, stderr } = await run(words);
      expect(exitCode, stderr).toBe(0);
      expect(stderr.match(/^Skipped a batch: no image of its 2 rows can be read$/gm)).toHaveLength(1);
      expect(stderr).toContain('2 rows were skipped.');
      // Three steps of the first epoch, and two of the second.
      expect(stateOf(`of-${processes}`)).toEqual({ step: 5, epoch: 1, position: 4 });
    }
    // The batch took no noise from those after it.
    expect(largestDifference(lossesOf(broken, 'of-1'), lossesOf(broken, 'of-2'))).toBeLessThan(1e-6);
  } finally {
    broken.remove();
  }
});
