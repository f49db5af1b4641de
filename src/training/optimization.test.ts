import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { expectAllclose } from '../../test/golden.js';
import { Recorder } from '../../test/recorder.js';
import { readAdapter } from '../adapters/adapter-file.js';
import { ConfigError } from '../base/errors.js';
import { readSafetensors } from '../formats/index.js';
import type { TrainOptions } from '../options/train-types.js';

import type { Tensor } from '../torch/index.js';
import { train } from './train.js';

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

interface Run {
  losses: number[];
  messages: string[];
  checkpoint: string;
}

/** @param abort is aborted when the first checkpoint is there */
async function run(name: string, options: Partial<TrainOptions>, abort?: AbortController): Promise<Run> {
  const { losses, messages, onEvent } = new Recorder();
  const { checkpoint } = await train(
    {
      ...world.optionsFor(name),
      ...{ batchSize: 2, maxSteps: 2 },
      ...options,
    },
    {
      onEvent: (event) => {
        onEvent(event);
        if (event.type === 'checkpoint') abort?.abort();
      },
      ...(abort === undefined ? {} : { signal: abort.signal }),
    },
  );
  return { losses, messages, checkpoint };
}

function bytes(checkpoint: string, file: string): Buffer {
  return readFileSync(join(checkpoint, `${file}.safetensors`));
}

/** How far each part of the adapter has gone between two checkpoints: its largest difference. */
function distances(from: string, to: string): { image_proj: number; ip_adapter: number } {
  const [before, after] = [from, to].map((path) => readAdapter(join(path, 'ip_adapter.safetensors')));
  const largest = (part: string): number =>
    Math.max(
      ...[...(before as Map<string, Tensor>)]
        .filter(([key]) => key.startsWith(part))
        .map(([key, value]) =>
          value
            .sub(after?.get(key) as Tensor)
            .abs()
            .max()
            .item(),
        ),
    );
  return { image_proj: largest('image_proj.'), ip_adapter: largest('ip_adapter.') };
}

const combined: Partial<TrainOptions> = {
  ...{ gradientAccumulationSteps: 2, maxSteps: 7, seed: 4, learningRate: 1e-3 },
  ...{ useEma: true, emaDecay: 0.6, maxGradNorm: 0.05, snrGamma: 0.1, noiseOffset: 0.1 },
  ...{ lrScheduler: 'cosine', lrWarmupSteps: 2, timestepSampling: 'logit_normal', logitMean: 0.5 },
};

describe('a run with everything on', () => {
  it('resumed, ends as if it had not been stopped, to the bit; the average is another than the weights', async () => {
    const whole = await run('whole', combined);
    const abort = new AbortController();
    const first = await run('parts', { ...combined, saveSteps: 3 }, abort);
    const second = await run('parts', { ...combined, resume: true });
    expect(first.losses).toHaveLength(3);
    expect([...first.losses, ...second.losses]).toEqual(whole.losses);
    for (const file of ['ip_adapter', 'ip_adapter_ema', 'optimizer'])
      expect(bytes(second.checkpoint, file).equals(bytes(whole.checkpoint, file)), file).toBe(true);
    const [weights, averages] = ['ip_adapter', 'ip_adapter_ema'].map((file) =>
      readAdapter(join(whole.checkpoint, `${file}.safetensors`)),
    ) as [Map<string, Tensor>, Map<string, Tensor>];
    expect([...averages.keys()]).toEqual([...weights.keys()]);
    expect(bytes(whole.checkpoint, 'ip_adapter').equals(bytes(whole.checkpoint, 'ip_adapter_ema'))).toBe(
      false,
    );
    expect(second.messages).toContain('Learning rate: cosine, 2 warm-up steps, over 7 steps');

    // Without its average, the checkpoint is not one to go on from.
    rmSync(join(second.checkpoint, 'ip_adapter_ema.safetensors'));
    await expect(run('parts', { ...combined, maxSteps: 8, resume: true })).rejects.toThrow(
      /ip_adapter_ema\.safetensors/,
    );
  });

  it('each option does something: without it the losses or the weights are others', async () => {
    const short = { ...combined, maxSteps: 5 };
    const all = await run('all', short);
    const changes: [
      keyof TrainOptions,
      TrainOptions[keyof TrainOptions],
      'losses' | 'weights' | 'average',
    ][] = [
      ['gradientAccumulationSteps', 1, 'losses'],
      ['maxGradNorm', undefined, 'weights'],
      ['snrGamma', undefined, 'losses'],
      ['noiseOffset', 0, 'losses'],
      ['timestepSampling', 'uniform', 'losses'],
      ['logitMean', 0, 'losses'],
      ['logitStd', 3, 'losses'],
      ['lrScheduler', 'linear', 'weights'],
      ['lrWarmupSteps', 0, 'weights'],
      ['adamBeta1', 0.5, 'weights'],
      ['adamBeta2', 0.5, 'weights'],
      ['adamEpsilon', 1e-3, 'weights'],
      ['emaDecay', 0.1, 'average'],
    ];
    for (const [option, value, what] of changes) {
      const other = await run(`without-${option}`, { ...short, [option]: value });
      const isSame = (file: string): boolean =>
        bytes(all.checkpoint, file).equals(bytes(other.checkpoint, file));
      if (what === 'losses') expect(other.losses, option).not.toEqual(all.losses);
      else {
        expect(other.losses[0], option).toBe(all.losses[0]);
        expect(isSame('ip_adapter'), option).toBe(what === 'average');
        expect(isSame('ip_adapter_ema'), option).toBe(false);
      }
    }
  });

  it('is refused where a binding option is another', async () => {
    await run('binding', { maxSteps: 1 });
    const again = { maxSteps: 2, resume: true } as const;
    for (const [options, message] of [
      [{ gradientAccumulationSteps: 2 }, /--gradient-accumulation-steps is 2 but .* trained with 1/],
      [{ useEma: true }, /--use-ema is true but .* trained with false/],
      [{ lrScheduler: 'cosine' }, /--lr-scheduler is cosine but .* trained with constant/],
      [{ maxGradNorm: 1 }, /--max-grad-norm is 1/],
      [{ snrGamma: 5 }, /--snr-gamma is 5/],
    ] as const)
      await expect(run('binding', { ...again, ...options })).rejects.toThrow(message);
  });
});

describe('a run of another length', () => {
  const cosine: Partial<TrainOptions> = { lrScheduler: 'cosine', lrWarmupSteps: 0, learningRate: 1e-3 };

  it('goes on by the schedule of its new length, and says so', async () => {
    await run('longer', { ...cosine, maxSteps: 2 });
    const { messages } = await run('longer', { ...cosine, maxSteps: 4, resume: true });
    expect(messages).toContain(
      'Learning rate: cosine, 0 warm-up steps, over 4 steps; the checkpoint was saved with 2 total steps, so the schedule changes',
    );
  });

  it('has nothing to say where the schedule does not depend on it', async () => {
    const constant = { lrScheduler: 'constant_with_warmup', lrWarmupSteps: 1 } as const;
    await run('constant', { ...constant, maxSteps: 1 });
    const { messages } = await run('constant', { ...constant, maxSteps: 2, resume: true });
    expect(messages).toContain('Learning rate: constant_with_warmup, 1 warm-up steps');
  });

  it.each([
    ['cosine_with_restarts', { lrNumCycles: 2 }],
    ['polynomial', { lrPower: 3 }],
  ] as const)('%s takes %j', async (lrScheduler, shape) => {
    const given = { lrScheduler, lrWarmupSteps: 0, maxSteps: 3, learningRate: 1e-3 } as const;
    const [one, other] = [
      await run(lrScheduler, given),
      await run(`${lrScheduler}-2`, { ...given, ...shape }),
    ];
    expect(other.losses.slice(0, 2)).toEqual(one.losses.slice(0, 2));
    expect(other.losses[2]).not.toBe(one.losses[2]);
  });

  it('epochs are counted in steps of the whole batch', async () => {
    const { messages, losses } = await run('epochs', {
      ...{ lrScheduler: 'linear', epochs: 2, maxSteps: undefined },
      ...{ batchSize: 1, gradientAccumulationSteps: 3 },
    });
    // 8 rows are 3 + 3 + 2.
    expect(losses).toHaveLength(6);
    expect(messages).toContain('Learning rate: linear, 500 warm-up steps, over 6 steps');
  });
});

describe('learning rates', () => {
  const oneStep = (name: string, options: Partial<TrainOptions>) =>
    run(name, { maxSteps: 1, weightDecay: 0, adamEpsilon: 1e-20, ...options });

  // Without decay, AdamW's first step moves every weight with a gradient by the learning rate.
  it('each part of the adapter has its own, or the common one', async () => {
    const far = { maxSteps: 1, weightDecay: 0, learningRate: 1e-30 };
    const { checkpoint: start } = await run('start', far);
    const cases = [
      [{ learningRate: 1e-3 }, 1e-3, 1e-3],
      [{ learningRate: 1e-3, imageProjLearningRate: 2e-3 }, 2e-3, 1e-3],
      [{ learningRate: 1e-3, ipAdapterLearningRate: 4e-3 }, 1e-3, 4e-3],
      [{ imageProjLearningRate: 2e-3, ipAdapterLearningRate: 4e-3 }, 2e-3, 4e-3],
    ] as const;
    for (const [i, [options, imageProj, ipAdapter]] of cases.entries()) {
      const { checkpoint } = await oneStep(`rates-${i}`, options);
      const moved = distances(start, checkpoint);
      expect(moved.image_proj / imageProj).toBeCloseTo(1, 2);
      expect(moved.ip_adapter / ipAdapter).toBeCloseTo(1, 2);
    }
  });

  it('--scale-lr multiplies all by the rows of a step', async () => {
    const batch = { batchSize: 2, gradientAccumulationSteps: 2 };
    const [scaled, given] = [
      await oneStep('scaled', { ...batch, learningRate: 1e-4, ipAdapterLearningRate: 3e-4, scaleLr: true }),
      await oneStep('given', { ...batch, learningRate: 4e-4, ipAdapterLearningRate: 12e-4 }),
    ];
    for (const [key, value] of readSafetensors(join(given.checkpoint, 'ip_adapter.safetensors')).tensors)
      expectAllclose(
        readAdapter(join(scaled.checkpoint, 'ip_adapter.safetensors')).get(key) as Tensor,
        value,
        1e-6,
      );
  });

  it('a polynomial below its end is refused before anything is written', async () => {
    await expect(run('rising', { lrScheduler: 'polynomial', learningRate: 1e-8 })).rejects.toThrow(
      /above 1e-7.*--lr-scheduler/,
    );
    expect(existsSync(join(world.root, 'rising'))).toBe(false);
  });
});

describe('values out of range', () => {
  it.each([
    [{ gradientAccumulationSteps: 0 }, /^gradientAccumulationSteps is 0; it must be a whole number from 1/],
    [{ maxGradNorm: 0 }, /^maxGradNorm is 0; it must be above 0$/],
    [{ emaDecay: 1 }, /^emaDecay is 1; it must be below 1$/],
    [{ adamBeta2: 1 }, /^adamBeta2 is 1; it must be below 1$/],
    [{ snrGamma: -5 }, /^snrGamma is -5; it must be above 0$/],
    [{ noiseOffset: -0.1 }, /^noiseOffset is -0.1; it must be at least 0$/],
    [{ logitStd: 0 }, /^logitStd is 0; it must be above 0$/],
    [{ lrWarmupSteps: 1.5 }, /^lrWarmupSteps is 1.5; it must be a whole number from 0/],
    [
      { lrScheduler: 'cosinus' as never },
      /^lrScheduler is "cosinus"; it must be one of .*constant_with_warmup/,
    ],
    [
      { timestepSampling: 'normal' as never },
      /^timestepSampling is "normal"; it must be one of uniform, logit_normal$/,
    ],
  ])('%j', async (options, message) => {
    await expect(run('faults', options)).rejects.toThrow(ConfigError);
    await expect(run('faults', options)).rejects.toThrow(message);
  });
});

describe('a model that predicts the velocity', () => {
  it('is trained on it, with its own Min-SNR weights', async () => {
    const file = join(world.root, 'model', 'scheduler', 'scheduler_config.json');
    const config = readFileSync(file, 'utf8');
    const losses: number[] = [];
    for (const prediction_type of ['epsilon', 'v_prediction'])
      for (const snrGamma of [undefined, 5]) {
        writeFileSync(file, JSON.stringify({ ...JSON.parse(config), prediction_type }));
        const ran = await run(`${prediction_type}-${snrGamma}`, {
          maxSteps: 1,
          snrGamma,
          batchSize: 8,
        });
        losses.push(ran.losses[0] as number);
      }
    writeFileSync(file, config);
    expect(new Set(losses).size).toBe(4);
  });
});
