import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makeWorld, type World } from '../../test/e2e/world.js';
import { expectAllclose, golden, goldenResampler, readGolden, target } from '../../test/golden.js';
import { readRun } from '../../test/read-events.js';
import { endsGroup, Recorder } from '../../test/recorder.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import type { RunEvent } from '../base/run-context.js';
import { diffusionObjective } from '../diffusion/objective.js';
import { unetBackbone } from '../diffusion/unet-model.js';
import { readSafetensors } from '../formats/index.js';
import { AdamW } from '../optim/adamw.js';
import { DDPMScheduler } from '../schedulers/ddpm.js';
import { backward, GradientCheckpoints, setNumThreads, type Tensor, tidy } from '../torch/index.js';
import { native } from '../torch/native.js';
import { loadUNet } from '../weights/load.js';
import { type StepInputs, trainingLoss } from './loss.js';
import { train } from './train.js';

const folder = golden('train') as string;
const read = (name: string): Map<string, Tensor> => readGolden(`${folder}/${name}.safetensors`);

describe('the original run, step by step', () => {
  it.each(['kept activations', 'gradient checkpointing'])(
    'gives its ten losses, its first gradients and its final weights, with %s',
    (activations) => {
      const config = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8'));
      const unet = loadUNet(golden('unet/unet') as string, target);
      const scheduler = DDPMScheduler.fromConfig(
        golden('schedulers/sd15_scheduler_config.json') as string,
        target.device,
      );
      const models = { backbone: unetBackbone(unet), objective: diffusionObjective(scheduler) };
      const adapter = new IPAdapter(unet.sites(), goldenResampler(config.resampler));
      adapter.loadStateDict(read('init'), 'golden');
      adapter.requiresGrad_(true);
      const parameters = adapter.namedParameters();
      expect([...parameters.keys()]).toEqual(config.parameter_order);
      const optimizer = new AdamW(
        { adapter: { parameters, learningRate: config.learning_rate } },
        { weightDecay: config.weight_decay },
      );

      const frozen = [...unet.namedParameters()];
      const before = frozen.map(([, value]) => value.toBytes());

      const inputs = read('inputs');
      const losses = read('losses').get('loss')?.toNumbers() as number[];
      for (const [step, expected] of losses.entries()) {
        const at = (name: string): Tensor => inputs.get(`step${step}.${name}`) as Tensor;
        const stepInputs: StepInputs = {
          latents: at('latents'),
          noise: at('noise'),
          timesteps: at('timesteps'),
          conditioning: { text: at('encoder_hidden_states') },
          imageFeatures: at('image_embeds'),
        };
        tidy(() => {
          using checkpoints = activations === 'gradient checkpointing' ? new GradientCheckpoints() : null;
          const { loss, rowLosses } = trainingLoss(models, adapter, stepInputs);
          expect(Math.abs(loss.item() / expected - 1)).toBeLessThan(1e-6);
          expect(rowLosses.shape).toEqual([stepInputs.timesteps.shape[0]]);
          expect(rowLosses.requiresGrad).toBe(false);
          expect(Math.abs(rowLosses.mean().item() / loss.item() - 1)).toBeLessThan(1e-6);
          backward(loss);
          checkpoints?.backward();
          if (step === 0)
            for (const [key, grad] of read('grads_step0'))
              expectAllclose(parameters.get(key)?.grad as Tensor, grad, 1e-4);
          optimizer.step();
          optimizer.zeroGrad();
        });
        if (step === 0) expectWeights(parameters, read('after_step1'), read('init'));
      }
      expectWeights(parameters, read('final'), read('init'));
      for (const [i, [key, value]] of frozen.entries()) {
        expect(Buffer.compare(value.toBytes(), before[i] as Uint8Array), key).toBe(0);
        expect(value.requiresGrad, key).toBe(false);
      }
    },
  );

  /** The error is small beside the way the weights went. */
  function expectWeights(
    actual: Map<string, Tensor>,
    expected: Map<string, Tensor>,
    start: Map<string, Tensor>,
  ): void {
    const distance = (a: Map<string, Tensor>, b: Map<string, Tensor>): number =>
      Math.sqrt(
        [...b].reduce(
          (sum, [key, value]) =>
            sum + tidy(() => (a.get(key) as Tensor).detach().sub(value).square().sum().item()),
          0,
        ),
      );
    expect(distance(actual, expected) / distance(start, expected)).toBeLessThan(1e-3);
  }

  it('noise and encodings of its first step', () => {
    const inputs = read('inputs');
    const at = (name: string): Tensor => inputs.get(`step0.${name}`) as Tensor;
    const scheduler = DDPMScheduler.fromConfig(
      golden('schedulers/sd15_scheduler_config.json') as string,
      target.device,
    );
    expectAllclose(
      scheduler.addNoise(at('latents'), at('noise'), at('timesteps')),
      at('noisy_latents'),
      1e-6,
    );
  });
});

describe('train', () => {
  let world: World;
  beforeAll(async () => {
    world = await makeWorld(8);
  });
  afterAll(() => world.remove());

  const optionsFor = (name: string) => ({
    ...world.optionsFor(name),
    batchSize: 3,
  });

  it('runs from TypeScript, tells every loss once, and leaves the model files as they were', async () => {
    const files = [
      'model/unet/diffusion_pytorch_model.safetensors',
      'model/vae/diffusion_pytorch_model.safetensors',
    ];
    const before = files.map((file) => readFileSync(`${world.root}/${file}`));
    const { losses, onEvent } = new Recorder();
    const options = { ...optionsFor('library'), maxSteps: 7, learningRate: 1e-3 };
    const { step, checkpoint, badRows } = await train(options, { onEvent });
    expect([step, badRows, losses.length]).toEqual([7, [], 7]);
    expect(losses.every(Number.isFinite)).toBe(true);
    expect(checkpoint).toBe(`${world.root}/library/checkpoint-7`);
    for (const [i, file] of files.entries())
      expect(Buffer.compare(readFileSync(`${world.root}/${file}`), before[i] as Buffer)).toBe(0);
  });

  it('sees every row in every epoch, the last batch smaller', async () => {
    let images = 0;
    let steps = 0;
    const onEvent = (event: RunEvent): void => {
      if (event.type === 'step') steps++;
      if (!endsGroup(event)) return;
      const seconds = steps * (Number(event['speed/step_seconds']) + Number(event['speed/data_seconds']));
      images += Number(event['speed/images_per_second']) * seconds;
      steps = 0;
    };
    const { step } = await train({ ...optionsFor('epochs'), epochs: 2 }, { onEvent });
    expect(step).toBe(6);
    expect(images).toBeCloseTo(16, 6);
  });

  it('computes on as many threads as it is told to', async () => {
    const before = native().getNumThreads();
    await train({ ...optionsFor('threads'), maxSteps: 1, threads: before + 1 });
    expect(native().getNumThreads()).toBe(before + 1);
    setNumThreads(before);
  });

  it('makes the steps that it is told to, in as many epochs as they take', async () => {
    const { step } = await train({ ...optionsFor('steps'), epochs: 1, maxSteps: 7 });
    expect(step).toBe(7);
  });

  it('stops on a signal, and goes on to the very losses of a run that was not stopped', async () => {
    const [{ losses: whole, onEvent: onWhole }, { losses: parts, onEvent: onParts }] = [
      new Recorder(),
      new Recorder(),
    ];
    await train({ ...optionsFor('whole'), maxSteps: 14, seed: 3 }, { onEvent: onWhole });
    const abort = new AbortController();
    const first = await train(
      { ...optionsFor('parts'), maxSteps: 14, seed: 3, saveSteps: 4 },
      {
        signal: abort.signal,
        onEvent: (event) => {
          onParts(event);
          if (event.type === 'checkpoint') abort.abort();
        },
      },
    );
    expect(first.step).toBe(4);
    await train({ ...optionsFor('parts'), maxSteps: 14, seed: 3, resume: true }, { onEvent: onParts });
    expect(parts).toEqual(whole);
    const told = readFileSync(`${world.root}/parts/metrics.jsonl`, 'utf8')
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line))
      .map((line) => [line.step, line.loss, line['lr/image_proj'], line['lr/ip_adapter']]);
    expect(told).toEqual(whole.map((loss, i) => [i + 1, loss, 1e-4, 1e-4]));
    const shown = readRun(`${world.root}/parts/logs`).map(({ step, scalars }) => [step, scalars.loss]);
    expect(shown).toEqual(whole.map((loss, i) => [i + 1, loss]));
    for (const file of ['ip_adapter', 'optimizer'])
      expect(
        Buffer.compare(
          ...(['whole', 'parts'].map((run) =>
            readFileSync(`${world.root}/${run}/checkpoint-14/${file}.safetensors`),
          ) as [Buffer, Buffer]),
        ),
      ).toBe(0);
  });

  it('stopped before its first step, it throws the reason and leaves nothing', async () => {
    const reason = new Error('enough');
    const hooks = { signal: AbortSignal.abort(reason) };
    await expect(train({ ...optionsFor('early'), maxSteps: 1 }, hooks)).rejects.toBe(reason);
    expect(existsSync(`${world.root}/early`)).toBe(false);
  });

  it('tells losses by their timesteps, of micro-batches as of whole batches', async () => {
    const told = async (batchSize: number, gradientAccumulationSteps: number) => {
      const options = optionsFor(`micro-${batchSize}`);
      await train({ ...options, batchSize, gradientAccumulationSteps, maxSteps: 1 });
      const line = JSON.parse(readFileSync(`${options.outputDir}/metrics.jsonl`, 'utf8'));
      return Object.entries<number>(line).filter(([name]) => name.startsWith('loss_by_timestep/'));
    };
    const [whole, parts] = [await told(8, 1), await told(3, 3)];
    expect(whole.length).toBeGreaterThan(2);
    expect(parts.map(([name]) => name)).toEqual(whole.map(([name]) => name));
    for (const [i, [name, loss]] of parts.entries())
      expect(Math.abs(loss / (whole[i]?.[1] as number) - 1), name).toBeLessThan(1e-4);
  });

  it('a hook that throws ends it with its own error, and with a checkpoint of what was done', async () => {
    const wrong = new Error('mine');
    // Events of steps come twice a second: more steps than any machine takes until then.
    const options = { ...optionsFor('hooked'), maxSteps: 60, seed: 3 };
    const onEvent = (event: RunEvent) => {
      if (event.type === 'step') throw wrong;
    };
    await expect(train(options, { onEvent })).rejects.toBe(wrong);
    const { losses, onEvent: record } = new Recorder();
    const { step } = await train({ ...options, resume: true }, { onEvent: record });
    expect(step).toBe(60);
    expect(losses.length).toBeLessThan(60);
    expect(losses.length).toBeGreaterThan(0);
  });

  it('refuses to resume as another run, and to mix two runs in a folder', async () => {
    await train({ ...optionsFor('binding'), maxSteps: 1 });
    const again = { ...optionsFor('binding'), maxSteps: 2 };
    await expect(train(again)).rejects.toThrow(/holds the checkpoints of another run/);
    await expect(train({ ...again, resume: true, seed: 1 })).rejects.toThrow(
      /--seed is 1 but .* trained with 0/,
    );
    await expect(train({ ...again, resume: true, batchSize: 2 })).rejects.toThrow(/--batch-size is 2/);
    await expect(train({ ...optionsFor('fresh'), resume: true })).rejects.toThrow(/there is none/);
    await expect(train({ ...optionsFor('fresh'), trainBatchsize: 4 } as never)).rejects.toThrow(
      /Unknown option trainBatchsize/,
    );
  });

  it('trains in bfloat16 beside float32, close to the float32 losses', async () => {
    // The demo's: what rounding does to random weights, layer after layer, says nothing of a model in use.
    const demo = join(import.meta.dirname, '../../demo/models');
    const trained = { model: demo, imageEncoder: join(demo, 'image_encoder') };
    const run = async (mixedPrecision: 'no' | 'bf16'): Promise<number[]> => {
      const { losses, onEvent } = new Recorder();
      const options = { ...optionsFor(mixedPrecision), ...trained, batchSize: 8, maxSteps: 4 };
      await train({ ...options, mixedPrecision }, { onEvent });
      return losses;
    };
    const [full, half] = [await run('no'), await run('bf16')];
    for (const [i, loss] of half.entries())
      expect(Math.abs(loss / (full[i] as number) - 1)).toBeLessThan(0.02);
    const { tensors } = readSafetensors(`${world.root}/bf16/checkpoint-4/ip_adapter.safetensors`);
    expect(new Set([...tensors.values()].map(({ dtype }) => dtype))).toEqual(new Set(['float32']));
  });
});
