/**
 * @file A process of its own for each measurement, so that its peak memory is its own: trains a few steps of the
 * full-size model and prints seconds by phase, operations and memory as JSON. Started by bench/train.ts:
 *
 *     step.ts MODELS INPUTS STEPS [cached] [checkpointing]
 */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { openAdapter } from '../../src/ip-adapter/open-adapter.js';
import { loadImageEncoder, loadTextEncoder, loadUNet, loadVAE } from '../../src/models/load.js';
import { AdamW } from '../../src/optim/adamw.js';
import { DDPMScheduler } from '../../src/schedulers/ddpm.js';
import {
  backward,
  GradientCheckpoints,
  memoryStats,
  noGrad,
  readSafetensors,
  type Tensor,
  tidy,
} from '../../src/torch/index.js';
import { trainingLoss } from '../../src/training-loss.js';
import { flop } from './flop.js';
import type { Measured, Phase } from './measured.js';

const [models = '', inputsFile = '', steps = '', ...modes] = process.argv.slice(2);
const isCached = modes.includes('cached');
const float32 = { dtype: 'float32' } as const;

const unet = loadUNet(join(models, 'model/unet'), float32);
const vae = isCached ? null : loadVAE(join(models, 'model/vae'), float32);
const textEncoder = isCached ? null : loadTextEncoder(join(models, 'model/text_encoder'), float32);
const imageEncoder = isCached ? null : loadImageEncoder(join(models, 'image_encoder'), float32);
const scheduler = DDPMScheduler.fromConfig(join(models, 'model/scheduler'));
const { module: adapter } = openAdapter(join(models, 'ip_adapter.safetensors'), unet);
adapter.requiresGrad_(true);
adapter.attach();
const optimizer = new AdamW({ adapter: { parameters: adapter.namedParameters(), learningRate: 1e-4 } });
const inputs = readSafetensors(inputsFile).tensors;
const input = (name: string): Tensor => inputs.get(name) as Tensor;

/** Since the process was started. */
const startUp = performance.now() / 1000;
const result: Measured = { startUp, losses: [], steps: [], flop: {}, peakRss: 0, peakInUse: 0, rss: [] };
for (let i = 0; i < Number(steps); i++) tidy(() => step());
result.peakRss = status('VmHWM');
result.peakInUse = memoryStats().cpuPeakBytes;
process.stdout.write(`${JSON.stringify(result)}\n`);

function step(): void {
  const seconds: Partial<Record<Phase, number>> = {};
  const timed = <T>(phase: Phase, run: () => T): T => {
    Object.assign(flop, { forward: 0, backward: 0 });
    const begin = performance.now();
    const value = run();
    seconds[phase] = (performance.now() - begin) / 1000;
    result.flop[phase] = flop.forward;
    return value;
  };
  const frozen = (phase: Phase, run: () => Tensor): Tensor => {
    using _ = noGrad();
    return timed(phase, () => tidy(run));
  };
  const latents =
    vae === null
      ? input('latents')
      : frozen('VAE', () => {
          const { mean, std } = vae.encode(input('pixels'));
          return mean.add(std.mul(input('sample'))).mul(vae.config.scalingFactor);
        });
  const imageFeatures =
    imageEncoder === null
      ? input('image')
      : frozen('image encoder', () => imageEncoder.hiddenStates(input('clip_pixels'), -2));
  const textStates =
    textEncoder === null
      ? input('text')
      : frozen('text encoder', () => textEncoder.call(input('input_ids')).lastHiddenState);
  const { noise, timesteps } = { noise: input('noise'), timesteps: input('timesteps') };
  using checkpoints = modes.includes('checkpointing') ? new GradientCheckpoints() : null;
  const { loss } = timed('UNet forward', () =>
    trainingLoss({ unet, scheduler }, adapter, { latents, noise, timesteps, textStates, imageFeatures }),
  );
  const backwardFlop = flop.backward;
  timed('backward', () => {
    backward(loss);
    checkpoints?.backward();
  });
  // With checkpoints the operators that gradients go through are called in backward.
  result.flop.backward = backwardFlop + flop.backward;
  timed('AdamW', () => {
    optimizer.step();
    optimizer.zeroGrad();
  });
  result.steps.push(seconds as Record<Phase, number>);
  result.losses.push(loss.detach().item());
  result.rss.push(status('VmRSS'));
}

/** Bytes, by Linux's name. */
function status(name: string): number {
  const line = new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(line?.[1] ?? Number.NaN) * 1024;
}
