import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { expectAllclose, expectSameBytes } from '../../test/golden.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import { contextDimOf } from '../adapters/open-adapter.js';
import { plus } from '../adapters/plus.js';
import { Resampler } from '../adapters/resampler.js';
import { type Batch, DataLoader } from '../data/data-loader.js';
import { openDataset } from '../data/open-dataset.js';
import { GradScaler } from '../optim/grad-scaler.js';
import { trainOptionsSchema } from '../options/train-options.js';
import { Generator, graphed, memoryStats, randn, type Tensor, tidy } from '../torch/index.js';
import { openEncoders } from './encodings/encoders.js';
import { NanGuard } from './nan-guard.js';
import { createOptimization } from './optimization.js';
import type { StepMetrics } from './reports/step-reporter.js';
import { openModels, trainingModels } from './setup.js';
import { createForwardBackward, type Training, trainStep } from './step.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

const target = { dtype: 'float32', device: 'cpu' } as const;

const at = (name: string): string => join(world.root, name);

/** All that a step takes; two of the same options are equal to the bit. Default: the world's models. */
async function open(
  options: Record<string, unknown>,
  model = at('model'),
  imageEncoder = at('image_encoder'),
): Promise<{ training: Training; batches: Batch[] }> {
  const config = trainOptionsSchema.parse({
    ...world.optionsFor('out'),
    learningRate: 1e-3,
    ...options,
  });
  const { gradientAccumulationSteps, resolution } = config;
  const opened = openModels(model, imageEncoder, target);
  const models = trainingModels(opened, plus, null, { ...target, rowsAtOnce: config.batchSize });
  const { rows } = await openDataset({ dataset: at('data.json'), datasetRoot: at('images') });
  const { tokenizer, imageProcessor } = models;
  const { sites } = models.backbone;
  const embeddingDim = opened.imageEncoder.widths.tokens;
  const batchSize = config.batchSize * gradientAccumulationSteps;
  const loader = new DataLoader({
    rows,
    tokenizer,
    imageProcessor,
    resolution,
    batchSize,
    prefetch: 1,
    seed: 0,
  });
  const encoders = await openEncoders(models, {
    cached: [],
    cacheDir: '',
    resolution,
    rows,
    loader,
    placement: target,
  });
  const dim = contextDimOf(sites);
  const adapter = new IPAdapter(
    sites,
    new Resampler({
      dim,
      embeddingDim,
      depth: 1,
      dimHead: 16,
      heads: 2,
      numQueries: 4,
      outputDim: dim,
      ffMult: 2,
    }),
  );
  adapter.init(new Generator('cpu', 1)).requiresGrad_(true);
  const optimization = createOptimization(adapter.namedParameters(), config, 100);
  const generator = new Generator('cpu', 5);
  const batches: Batch[] = [];
  for await (const batch of loader.batches(0)) batches.push(batch);
  const guard = new NanGuard(0, String);
  return { training: { config, models, encoders, adapter, generator, guard, ...optimization }, batches };
}

/** A step that is not skipped. */
function step(training: Training, batch: Batch): StepMetrics {
  return trainStep(training, batch, 1) as StepMetrics;
}

interface Ran {
  losses: number[];
  norms: number[];
  parameters: Map<string, Tensor>;
  /** AdamW's first moments: a tenth of the gradients after one step. */
  moments: Map<string, Tensor>;
}

function run({ training, batches }: Awaited<ReturnType<typeof open>>): Ran {
  const [losses, norms] = [[] as number[], [] as number[]];
  for (const batch of batches)
    tidy(() => {
      const { loss, gradNorm } = step(training, batch);
      losses.push(loss.item());
      norms.push(gradNorm.item());
    });
  const moments = [...training.optimizer.stateDict()].filter(([key]) => key.startsWith('exp_avg.'));
  return { losses, norms, parameters: training.adapter.namedParameters(), moments: new Map(moments) };
}

/** Losses, norms and final weights, to the bit. */
function expectSameRun(actual: Ran, expected: Ran): void {
  expect(actual.losses).toEqual(expected.losses);
  expect(actual.norms).toEqual(expected.norms);
  for (const [key, value] of expected.parameters)
    expectSameBytes((actual.parameters.get(key) as Tensor).detach(), value.detach());
}

function expectClose(actual: readonly number[], expected: readonly number[], relative: number): void {
  expect(actual.length).toBe(expected.length);
  for (const [i, value] of actual.entries())
    expect(Math.abs(value / (expected[i] as number) - 1)).toBeLessThan(relative);
}

describe('peak memory', () => {
  it('is less with gradient checkpointing, and that of a small batch with accumulation', async () => {
    // Latents of 128 px, without their VAE: its convolutions need the same memory for one row as for many.
    const generator = new Generator('cpu', 3);
    const encodings = {
      latents: randn([8, 2, 4, 16, 16], { generator }),
      text: randn([8, 77, 32], { generator }),
      image: randn([8, 5, 48], { generator }),
    };
    const peak = async (options: Record<string, unknown>): Promise<number> => {
      const { training, batches } = await open(options);
      const { latents, text, image } = encodings;
      training.encoders = {
        latents: () => ({ rows: latents }),
        text: () => ({ rows: text }),
        image: () => ({ rows: image }),
      };
      const before = memoryStats().cpuAllocatedBytes;
      run({ training, batches });
      return memoryStats().cpuPeakBytes - before;
    };
    // The peak of the process only grows: the smaller ones come first, and this test before the others.
    const accumulated = await peak({ batchSize: 1, gradientAccumulationSteps: 8 });
    const checkpointed = await peak({ batchSize: 8, gradientCheckpointing: true });
    const whole = await peak({ batchSize: 8 });
    expect(accumulated).toBeLessThan(whole / 4);
    expect(checkpointed).toBeLessThan(whole * 0.6);
  });
});

describe('gradient checkpointing', () => {
  it('gives the same loss to the bit, and the gradients within float noise', async () => {
    const options = { batchSize: 8 };
    const [kept, again] = [
      run(await open(options)),
      run(await open({ ...options, gradientCheckpointing: true })),
    ];
    expect(again.losses).toEqual(kept.losses);
    for (const [key, value] of kept.moments) expectAllclose(again.moments.get(key) as Tensor, value, 1e-5);
  });
});

describe('gradient accumulation', () => {
  // Of 8 rows, so that the last batch is smaller in some, and its last micro-batch too: 3 3 | 2, 3 3 2.
  it.each([
    [{ batchSize: 4 }, { batchSize: 1, gradientAccumulationSteps: 4 }],
    [{ batchSize: 5 }, { batchSize: 1, gradientAccumulationSteps: 5 }],
    [{ batchSize: 6 }, { batchSize: 3, gradientAccumulationSteps: 2 }],
    [
      { batchSize: 8, snrGamma: 5, noiseOffset: 0.1 },
      { batchSize: 3, gradientAccumulationSteps: 3, snrGamma: 5, noiseOffset: 0.1 },
    ],
  ])('%j is %j', async (large, small) => {
    const [one, many] = [run(await open(large)), run(await open(small))];
    expectClose(many.losses, one.losses, 1e-5);
    expectClose(many.norms, one.norms, 1e-4);
    for (const [key, value] of one.moments) expectAllclose(many.moments.get(key) as Tensor, value, 1e-3);
    for (const [key, value] of one.parameters)
      expectAllclose((many.parameters.get(key) as Tensor).detach(), value.detach(), 1e-3);
  });

  it('gives the gradients of the large batch within float noise', async () => {
    // The demo's models: random weights make more of the rounding, which differs with the size of the batch.
    const demo = join(import.meta.dirname, '../../demo/models');
    const [large, small] = [
      await open({ batchSize: 8 }, demo, join(demo, 'image_encoder')),
      await open({ batchSize: 2, gradientAccumulationSteps: 4 }, demo, join(demo, 'image_encoder')),
    ];
    const [one, many] = [run(large), run(small)];
    for (const [key, value] of one.moments) expectAllclose(many.moments.get(key) as Tensor, value, 1e-5);
  });
});

describe('a recorded step', () => {
  // A graph runs the same work again on the same memory; what must not be baked into it is in the inputs.
  it.each([
    { batchSize: 3, gradientAccumulationSteps: 2 },
    { batchSize: 3, gradientAccumulationSteps: 2, gradientCheckpointing: true, snrGamma: 5 },
    { batchSize: 2, maxGradNorm: 0.01, useEma: true, lrScheduler: 'linear', lrWarmupSteps: 2 },
  ])('gives the same bytes: %j', async (options) => {
    const [plain, recording] = [await open(options), await open(options)];
    const { training } = recording;
    training.forwardBackward = graphed(createForwardBackward(training), (work) => work);
    // Each shape several times.
    for (const opened of [plain, recording]) opened.batches.push(...opened.batches, ...opened.batches);
    const plainRun = run(plain);
    expectSameRun(run(recording), plainRun);
  });

  it('gives the same bytes with a gradient scaler, whose scale grows', async () => {
    const [plain, recording] = [await open({ batchSize: 4 }), await open({ batchSize: 4 })];
    for (const opened of [plain, recording]) {
      opened.training.scaler = new GradScaler();
      opened.training.scaler.loadStateDict({ scale: 1024, goodSteps: 1998 });
      opened.batches.push(...opened.batches, ...opened.batches);
    }
    recording.training.forwardBackward = graphed(createForwardBackward(recording.training), (work) => work);
    const plainRun = run(plain);
    expectSameRun(run(recording), plainRun);
    expect(recording.training.scaler?.scale).toBe(2048);
  });
});

describe('clipping', () => {
  it('tells the norm before it, and bounds what AdamW gets', async () => {
    const [free, clipped] = [
      run(await open({ batchSize: 8 })),
      run(await open({ batchSize: 8, maxGradNorm: 0.01 })),
    ];
    const [norm] = free.norms as [number];
    expect(clipped.norms).toEqual(free.norms);
    expect(norm).toBeGreaterThan(0.02);
    for (const [key, value] of free.moments)
      expectAllclose(clipped.moments.get(key) as Tensor, value.mul(0.01 / norm), 1e-3);
    const total = [...clipped.moments.values()].reduce((sum, m) => sum + m.square().sum().item(), 0);
    expect(Math.sqrt(total) / 0.1).toBeCloseTo(0.01, 5);
  });
});

describe('a learning rate of 0', () => {
  it('is the first of a warm-up, and moves nothing', async () => {
    const opened = await open({ batchSize: 4, lrScheduler: 'linear', lrWarmupSteps: 2 });
    const before = tidy(() =>
      Array.from(opened.training.adapter.parameters(), (value) => value.detach().clone()),
    );
    const [first, second] = opened.batches as [Batch, Batch];
    const rates = [step(opened.training, first).learningRates];
    for (const [i, value] of opened.training.adapter.parameters().entries())
      expectSameBytes(value.detach(), before[i] as Tensor);
    rates.push(step(opened.training, second).learningRates);
    expect(rates).toEqual([
      { image_proj: 0, ip_adapter: 0 },
      { image_proj: 5e-4, ip_adapter: 5e-4 },
    ]);
  });
});

describe('the gradient scaler', () => {
  // Half precision needs a GPU; the scaler itself does not, and powers of two change no digit.
  it('changes no bit where nothing overflows', async () => {
    const [plain, scaled] = [await open({ batchSize: 4 }), await open({ batchSize: 4 })];
    scaled.training.scaler = new GradScaler();
    const plainRun = run(plain);
    expectSameRun(run(scaled), plainRun);
  });

  it('skips the update after an overflow: weights, average, schedule and count of updates stay', async () => {
    const opened = await open({ batchSize: 4, useEma: true, lrScheduler: 'linear', lrWarmupSteps: 2 });
    const { training, batches } = opened;
    const scaler = new GradScaler();
    training.scaler = scaler;
    tidy(() => step(training, batches[0] as Batch));
    scaler.loadStateDict({ scale: 2 ** 300, goodSteps: 3 });
    const values = [
      ...training.adapter.parameters(),
      ...training.optimizer.stateDict().values(),
      ...(training.ema?.stateDict().values() ?? []),
    ];
    const before = tidy(() => values.map((value) => value.detach().clone()));
    const [skipped, done] = [1, 1].map(() => tidy(() => step(training, batches[1] as Batch)));
    expect(skipped?.gradNorm.item()).not.toBeLessThan(Number.POSITIVE_INFINITY);
    expect(scaler.stateDict()).toEqual({ scale: 2 ** 298, goodSteps: 0 });
    expect(done?.learningRates).toEqual(skipped?.learningRates);
    expect(training.optimizer.steps).toBe(1);
    for (const [i, value] of values.entries()) expectSameBytes(value.detach(), before[i] as Tensor);
    scaler.loadStateDict({ scale: 65536, goodSteps: 0 });
    tidy(() => step(training, batches[1] as Batch));
    expect(training.optimizer.steps).toBe(2);
  });

  it('hides no NaN of the loss, and none of the gradients once there is no scale that could be the cause', async () => {
    const { training, batches } = await open({ batchSize: 4 });
    const scaler = new GradScaler();
    training.scaler = scaler;
    const batch = batches[0] as Batch;
    const { latents } = training.encoders;
    training.encoders.latents = (examples) => tidy(() => ({ rows: latents(examples).rows.mul(Number.NaN) }));
    expect(() => tidy(() => step(training, batch))).toThrow(/the loss is NaN in step 1; .* rows \d/);
    training.encoders.latents = latents;
    // backward adds to what is there.
    scaler.loadStateDict({ scale: 1, goodSteps: 0 });
    const [weight] = training.adapter.parameters() as [Tensor];
    weight.grad = tidy(() => weight.detach().mul(0).add(Number.POSITIVE_INFINITY));
    expect(() => tidy(() => step(training, batch))).toThrow(/the gradient of \S+ has Infinity in step 1;/);
    scaler.loadStateDict({ scale: 2, goodSteps: 0 });
    weight.grad = tidy(() => weight.detach().mul(0).add(Number.POSITIVE_INFINITY));
    expect(tidy(() => step(training, batch))).not.toBeNull();
    expect(scaler.scale).toBe(1);
  });
});
