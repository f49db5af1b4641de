import { existsSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, stretchImages, type World } from '../../../test/e2e/world.js';
import { Recorder } from '../../../test/recorder.js';
import { writeAdapter } from '../../adapters/adapter-file.js';
import { IPAdapter } from '../../adapters/ip-adapter.js';
import { Resampler } from '../../adapters/resampler.js';
import { readSafetensors } from '../../formats/index.js';
import { type Part, parts } from '../../options/train-options.js';
import type { TrainOptions } from '../../options/train-types.js';
import { Generator, memoryStats } from '../../torch/index.js';
import { loadUNet } from '../../weights/load.js';
import { train } from '../train.js';
import { dryRun } from './dry-run.js';
import type { DryRunReport, PartMeasures } from './dry-run-report.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());
const at = (...names: string[]): string => join(world.root, ...names);
// On the CPU, where weights are mapped.
const optionsFor = (name: string, options: Partial<TrainOptions> = {}): TrainOptions => ({
  ...world.optionsFor(name),
  device: 'cpu',
  ...{ batchSize: 3, learningRate: 1e-3, seed: 3 },
  ...options,
});

async function lossesOf(options: TrainOptions): Promise<number[]> {
  const { losses, onEvent } = new Recorder();
  await train(options, { onEvent });
  return losses;
}

/** Bytes of a file's tensors. */
const bytesIn = (...names: string[]): number =>
  [...readSafetensors(at(...names)).tensors.values()].reduce((sum, { bytes }) => sum + bytes, 0);

/** The file of an adapter with tensors that are large enough for the allocator to count. */
function wideAdapter(): string {
  const unet = loadUNet(at('model', 'unet'));
  const sizes = { dim: 32, depth: 4, dimHead: 64, heads: 12, numQueries: 16, embeddingDim: 48, ffMult: 4 };
  const adapter = new IPAdapter(unet.sites(), new Resampler({ ...sizes, outputDim: 32 }));
  adapter.init(new Generator('cpu', 1));
  writeAdapter(at('wide.safetensors'), adapter.namedParameters());
  return at('wide.safetensors');
}

/** Every file below a folder, with what a write would change of it. */
const listing = (folder: string): unknown[] =>
  readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((name) => {
    const { size, mtimeMs, ino } = statSync(join(folder, name));
    return [name, size, mtimeMs, ino];
  });

function partOf({ step }: DryRunReport, name: string): PartMeasures {
  const found = step.parts.find((part) => part.name === name);
  if (found === undefined) throw new Error(`no ${name} among ${step.parts.map((part) => part.name)}`);
  return found;
}

describe('a dry run', () => {
  it('takes the first two steps of the run to the bit, tells its true sizes, and leaves nothing', async () => {
    const options = optionsFor('sizes', { gradientAccumulationSteps: 2, useEma: true, maxGradNorm: 1 });
    const report = await dryRun({ ...options, maxSteps: 7, saveSteps: 3 });
    expect(existsSync(at('sizes'))).toBe(false);
    expect([report.totalSteps, report.doneSteps, report.badRows]).toEqual([7, 0, []]);
    expect(report.losses).toEqual((await lossesOf({ ...options, maxSteps: 2 })).slice(0, 2));

    const weights = {
      VAE: bytesIn('model', 'vae', 'diffusion_pytorch_model.safetensors'),
      UNet: bytesIn('model', 'unet', 'diffusion_pytorch_model.safetensors'),
      'text encoder': bytesIn('model', 'text_encoder', 'model.safetensors'),
      'image encoder': bytesIn('image_encoder', 'model.safetensors'),
    };
    for (const [name, bytes] of Object.entries(weights))
      expect(partOf(report, name), name).toMatchObject({ mappedBytes: bytes, heldBytes: 0 });
    const checkpoint = at('sizes', 'checkpoint-2');
    const adapter = bytesIn('sizes', 'checkpoint-2', 'ip_adapter.safetensors');
    for (const [name, copies] of Object.entries({ adapter: 1, backward: 1, AdamW: 2, 'moving average': 1 }))
      expect(partOf(report, name), name).toMatchObject({ mappedBytes: 0, heldBytes: copies * adapter });

    const written = readdirSync(checkpoint).reduce(
      (sum, file) => sum + statSync(join(checkpoint, file)).size,
      0,
    );
    expect(Math.abs(report.checkpoints.sizes.whole / written - 1)).toBeLessThan(0.01);
    // After steps 3, 6 and 7.
    expect(report.checkpoints.count).toBe(3);
  });

  it('tells memory that holds what must be live, and times that add up', async () => {
    const wide = wideAdapter();
    const report = await dryRun({ ...optionsFor('live'), epochs: 5, adapter: wide });
    expect(report.totalSteps).toBe(15);
    const { step, memory } = report;
    const large = [...readSafetensors(wide).tensors.values()]
      .map(({ bytes }) => bytes)
      .filter((bytes) => bytes >= 2 ** 16)
      .reduce((sum, bytes) => sum + bytes, 0);
    expect(large).toBeGreaterThan(2 ** 20);
    // Weights, gradients and two moments.
    for (const name of ['backward', 'AdamW'])
      expect(partOf(report, name).tensorBytes, name).toBeGreaterThanOrEqual(4 * large);
    const peaks = step.parts.map(({ tensorBytes }) => tensorBytes ?? 0);
    expect(memory.tensors).toBeGreaterThanOrEqual(Math.max(...peaks));
    // Half of the weights are in the tensors, and the program is beside them.
    expect(memory.resident).toBeGreaterThan(memory.tensors as number);
    expect(memory.mostResident).toBeGreaterThanOrEqual(memory.resident);

    const timed = step.parts.filter(({ seconds }) => seconds !== null);
    expect(timed.map(({ name }) => name)).toEqual([
      ...['reading images', 'VAE', 'text encoder', 'image encoder'],
      ...['forward', 'backward', 'AdamW', 'everything else'],
    ]);
    const sum = timed.reduce((total, { seconds }) => total + (seconds as number), 0);
    expect(sum).toBeCloseTo(step.seconds, 6);
    for (const { name, seconds } of timed) expect(seconds, name).toBeGreaterThan(0);
    expect(report.seconds).toBeCloseTo(15 * step.seconds, 6);
    expect(step).toMatchObject({ images: 3, size: { width: 64, height: 64 } });
  });

  it('holds in memory what is converted', async () => {
    const report = await dryRun(optionsFor('half', { mixedPrecision: 'bf16' }));
    const bytes = bytesIn('model', 'unet', 'diffusion_pytorch_model.safetensors') / 2;
    expect(partOf(report, 'UNet')).toMatchObject({ mappedBytes: 0, heldBytes: bytes });
    expect(partOf(report, 'adapter').heldBytes).toBe(partOf(report, 'backward').heldBytes);
  });

  it('shows what gradient checkpointing saves', async () => {
    const options = { mixedPrecision: 'no', batchSize: 6, resolution: 128 } as const;
    const plain = await dryRun(optionsFor('plain', options));
    const lean = await dryRun(optionsFor('lean', { ...options, gradientCheckpointing: true }));
    const activations = [plain, lean].map((report) => {
      const [forward, update] = [partOf(report, 'forward'), partOf(report, 'AdamW')];
      return (forward.tensorBytes as number) - (update.tensorBytes as number);
    });
    expect(activations[1]).toBeLessThan(activations[0] as number);
  });

  it('lets go of all that it loaded', async () => {
    const before = memoryStats().cpuAllocatedBytes;
    await dryRun(optionsFor('gone', { mixedPrecision: 'bf16', useEma: true, cache: 'latents,text,image' }));
    expect(memoryStats().cpuAllocatedBytes).toBeLessThanOrEqual(before);
    expect(memoryStats().cpuCachedBytes).toBe(0);
  });

  it('goes on from a checkpoint, and changes nothing in the output folder', async () => {
    const options = optionsFor('resumed', { saveSteps: 4 });
    const whole = await lossesOf({ ...options, maxSteps: 6 });
    const before = listing(at('resumed'));
    const resume = at('resumed', 'checkpoint-4');
    const report = await dryRun({ ...options, resume, maxSteps: 20 });
    expect(report.losses).toEqual(whole.slice(4));
    expect([report.doneSteps, report.totalSteps, report.checkpoints.count]).toEqual([4, 20, 4]);
    expect(report.seconds).toBeCloseTo(16 * report.step.seconds, 6);
    expect(listing(at('resumed'))).toEqual(before);

    const done = await dryRun({ ...options, resume: true, maxSteps: 6 });
    expect([done.doneSteps, done.seconds, done.checkpoints.count, done.losses.length]).toEqual([6, 0, 0, 2]);
    const few = await dryRun({ ...options, resume, maxSteps: 20, checkpointsTotalLimit: 2 });
    expect(few.checkpoints.count).toBe(2);
  });

  it('takes the batch of the most pixels where there are buckets', async () => {
    const wide = await makeWorld(8);
    try {
      await stretchImages(wide, Array<[number, number]>(6).fill([120, 70]));
      const options = { ...wide.optionsFor('out'), buckets: true };
      // Four wide ones are more than two squares, though a square is more than a wide one.
      const { step } = await dryRun({ ...options, batchSize: 4 });
      expect(step).toMatchObject({ images: 4, size: { width: 80, height: 48 } });
      expect((await dryRun({ ...options, batchSize: 2 })).step.size).toEqual({ width: 64, height: 64 });
      const corrupt = (...images: number[]): void => {
        for (const i of images) {
          const file = join(wide.root, 'images', `${i}.png`);
          writeFileSync(file, readFileSync(file).subarray(0, 60));
        }
      };
      corrupt(6);
      for (const cache of [undefined, 'latents,image,text']) {
        const { step, badRows, losses } = await dryRun({ ...options, batchSize: 2, cache });
        expect(step).toMatchObject({ images: 2, size: { width: 80, height: 48 } });
        expect(badRows.map(({ file }) => file)).toEqual([join(wide.root, 'images', '6.png')]);
        expect(losses.every(Number.isFinite)).toBe(true);
      }
      corrupt(0, 1, 2, 3, 4, 5, 7);
      await expect(dryRun({ ...options, batchSize: 2 })).rejects.toThrow(/of 8 are bad so far/);
    } finally {
      wide.remove();
    }
  });

  it('throws what the run throws', async () => {
    const faults: [Partial<TrainOptions>, RegExp][] = [
      [{ resolution: 63 }, /resolution.*multiple of 8/],
      [{ imageEncoder: at('model', 'vae') }, /./],
      [{ dataset: at('none.json') }, /none\.json/],
      [{ resume: true }, /there is none/],
      [{ outputDir: at('sizes') }, /holds the checkpoints of another run/],
      [{ adapter: at('data.json') }, /data\.json/],
    ];
    for (const [change, expected] of faults) {
      const options = optionsFor('faulty', change);
      const thrown = await train(options).then(
        () => expect.unreachable(),
        (error: Error) => error,
      );
      expect(thrown.message).toMatch(expected);
      await expect(dryRun(options)).rejects.toThrow(thrown);
      expect(existsSync(at('faulty'))).toBe(false);
    }
    const { dataset: _, datasetRoot: __, ...rest } = optionsFor('faulty');
    await expect(dryRun({ ...rest, dataset: '-' })).rejects.toThrow(
      /--dataset \(dataset\) is -, which a dry run cannot read/,
    );
    const reason = new Error('enough');
    await expect(dryRun(optionsFor('faulty'), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    expect(existsSync(at('faulty'))).toBe(false);
  });
});

describe('a dry run with caches', () => {
  const cacheDir = (): string => at('cache');
  /** What a real run has written of a part. */
  const stored = (part: Part): { entries: number; bytes: number } => {
    const found = { entries: 0, bytes: 0 };
    for (const folder of readdirSync(cacheDir()).filter((name) => name.startsWith(part)))
      for (const file of readdirSync(join(cacheDir(), folder))) {
        found.bytes += bytesIn('cache', folder, file);
        found.entries += readSafetensors(join(cacheDir(), folder, file)).tensors.get('rows')
          ?.shape[0] as number;
      }
    return found;
  };

  it.each([
    ['squares', {}],
    ['buckets and mirrored images', { buckets: true, randomFlip: true }],
  ])('tells the size of what the run will write, and writes nothing: %s', async (_, change) => {
    await stretchImages(world, [[120, 70]]);
    rmSync(cacheDir(), { recursive: true, force: true });
    const options = (name: string) =>
      optionsFor(name, { ...change, cache: 'latents,image,text', cacheDir: cacheDir() });
    const report = await dryRun(options('dry'));
    expect(existsSync(cacheDir()) || existsSync(at('dry'))).toBe(false);
    expect(report.caches.map(({ exists }) => exists)).toEqual([false, false, false]);
    const losses = await lossesOf({ ...options('real'), maxSteps: 2 });
    for (const [i, part] of parts.entries()) {
      const { entries, diskBytes } = report.caches[i] as DryRunReport['caches'][number];
      expect({ entries, bytes: diskBytes }, part).toEqual(stored(part));
    }
    if (!('buckets' in change))
      for (const [i, loss] of losses.entries())
        expect(Math.abs((report.losses[i] as number) / loss - 1)).toBeLessThan(1e-4);
    rmSync(at('real'), { recursive: true });

    const before = listing(cacheDir());
    const again = await dryRun(options('dry'));
    expect(again.caches.map(({ exists }) => exists)).toEqual([true, true, true]);
    expect(listing(cacheDir())).toEqual(before);
  });

  it('counts the encoders apart from the steps, in time and in memory', async () => {
    const options = optionsFor('apart', { cache: 'latents,image', maxSteps: 10 });
    const report = await dryRun(options);
    const names = report.step.parts.map(({ name }) => name);
    expect(names.filter((name) => /encoder|VAE/.test(name))).toEqual(['text encoder']);
    expect(report.caches.map(({ name }) => name)).toEqual(['VAE', 'image encoder']);
    const [vae] = report.caches as [DryRunReport['caches'][number]];
    expect(vae.mappedBytes).toBe(bytesIn('model', 'vae', 'diffusion_pytorch_model.safetensors'));
    const filling = report.caches.reduce((sum, { totalSeconds }) => sum + totalSeconds, 0);
    expect(report.seconds).toBeCloseTo(10 * report.step.seconds + filling, 6);
    expect(vae.totalSeconds).toBeGreaterThanOrEqual(((vae.seconds as number) / 3) * 8);
    expect((await dryRun(optionsFor('apart'))).step.parts.length).toBe(names.length + 2);
  });

  it('skips an image that cannot be read, as filling the cache would', async () => {
    const bad = await makeWorld(8);
    try {
      writeFileSync(
        join(bad.root, 'images', '5.png'),
        readFileSync(join(bad.root, 'images', '5.png')).subarray(0, 60),
      );
      const options = { ...bad.optionsFor('out'), batchSize: 4, cache: 'latents,image,text' };
      const report = await dryRun(options);
      expect(report.badRows.map(({ file }) => file)).toEqual([join(bad.root, 'images', '5.png')]);
      const losses = await lossesOf({ ...options, maxSteps: 2 });
      for (const [i, loss] of losses.entries())
        expect(Math.abs((report.losses[i] as number) / loss - 1)).toBeLessThan(1e-4);
    } finally {
      bad.remove();
    }
  });
});
