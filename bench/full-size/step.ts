/**
 * @file Trains a few steps of the full-size model and prints seconds by phase, operations and memory as JSON. Each
 * measurement is a separate process, to measure its peak memory. Started by bench/train.ts and bench/cuda.ts:
 *
 *     step.ts MODELS INPUTS STEPS [cached] [checkpointing] [throughput] [graphs] [--device cuda] [--dtype bfloat16]
 *
 * The dtype is that of the frozen models; trained weights are always float32. With `throughput` the steps are timed together,
 * since synchronizing with a GPU after each phase would make it wait for the CPU.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { parseArgs } from 'node:util';
import { openAdapter } from '../../src/adapters/open-adapter.js';
import { diffusionObjective } from '../../src/diffusion/objective.js';
import { unetBackbone } from '../../src/diffusion/unet-model.js';
import { readSafetensors } from '../../src/formats/index.js';
import { AdamW } from '../../src/optim/adamw.js';
import { DDPMScheduler } from '../../src/schedulers/ddpm.js';
import {
  type Device,
  type DType,
  graphed,
  memoryStats,
  noGrad,
  ones,
  releasePages,
  synchronize,
  type Tensor,
  tidy,
} from '../../src/torch/index.js';
import { resolveTarget } from '../../src/torch/target.js';
import { createForwardBackward } from '../../src/training/step.js';
import { loadImageEncoder } from '../../src/weights/image-encoders.js';
import { loadTextEncoder, loadUNet, loadVAE } from '../../src/weights/load.js';
import { matmulRate } from './matmul-rate.js';
import { flop, type Measured, type Phase, type Throughput } from './measured.js';

const { positionals, values } = parseArgs({
  options: { device: { type: 'string', default: 'cpu' }, dtype: { type: 'string', default: 'float32' } },
  allowPositionals: true,
});
const [models = '', inputsFile = '', steps = '', ...modes] = positionals;
const isGraphed = modes.includes('graphs');
const target = resolveTarget(values as { device: Device; dtype: DType });
const { device } = target;
/** Warm-up steps with `throughput`. */
const warmUp = 3;

const backbone = unetBackbone(loadUNet(join(models, 'model/unet'), target));
const objective = diffusionObjective(DDPMScheduler.fromConfig(join(models, 'model/scheduler'), device));
const { module: adapter } = openAdapter(join(models, 'ip_adapter.safetensors'), backbone.sites);
adapter.to({ device }).requiresGrad_(true);
const optimizer = new AdamW({ adapter: { parameters: adapter.namedParameters(), learningRate: 1e-4 } });
const tensors = readSafetensors(inputsFile).tensors;
const inputs = new Map(Array.from(tensors, ([name, tensor]) => [name, tensor.to(device)]));
const input = (name: string): Tensor => inputs.get(name) as Tensor;
// In the dtype of cached text states.
inputs.set('text', input('text').to(target.dtype));

/** Runs a phase; measurePhases replaces it to measure seconds. */
let timed = <T>(_: Phase, work: () => T): T => work();
const forwardBackward = recorded(
  createForwardBackward({
    ...{ models: { backbone, objective }, adapter },
    config: { gradientCheckpointing: modes.includes('checkpointing') },
    measure: (phase, work) => timed(phase === 'forward' ? 'UNet forward' : 'backward', work),
  }),
);
const encode = modes.includes('cached') ? cachedEncoders() : encoders();

/** Seconds since the start of the process. */
const startUp = performance.now() / 1000;
process.stdout.write(
  `${JSON.stringify(modes.includes('throughput') ? measureThroughput() : measurePhases())}\n`,
);

function recorded<Inputs, Outputs>(fn: (inputs: Inputs) => Outputs): (inputs: Inputs) => Outputs {
  return isGraphed ? graphed(fn) : fn;
}

type Encode = Record<'latents' | 'text' | 'image', () => Tensor>;

function encoders(): Encode {
  const vae = loadVAE(join(models, 'model/vae'), target);
  const textEncoder = loadTextEncoder(join(models, 'model/text_encoder'), target);
  const imageEncoder = loadImageEncoder(join(models, 'image_encoder'), target);
  const frozen = (
    phase: Phase,
    model: { parameters(): Tensor[] },
    fn: (input: Tensor) => Tensor,
    name: string,
  ): (() => Tensor) => {
    const run = recorded((x: Tensor) => tidy(() => fn(x)));
    return () => {
      using _ = noGrad();
      return timed(phase, () => {
        const encoded = run(input(name));
        // As src/training/encodings does.
        releasePages(model);
        return encoded;
      });
    };
  };
  return {
    latents: frozen(
      'VAE',
      vae,
      (pixels) => {
        const { mean, std } = vae.encode(pixels);
        return mean.add(std.mul(input('sample'))).mul(vae.config.scalingFactor);
      },
      'pixels',
    ),
    image: frozen(
      'image encoder',
      imageEncoder,
      (pixels) => imageEncoder.hiddenStates(pixels, -2).to('float32'),
      'clip_pixels',
    ),
    text: frozen('text encoder', textEncoder, (ids) => textEncoder.call(ids).lastHiddenState, 'input_ids'),
  };
}

function cachedEncoders(): Encode {
  return { latents: () => input('latents'), image: () => input('image'), text: () => input('text') };
}

function measurePhases(): Measured {
  const result: Measured = {
    ...{ startUp, losses: [], steps: [], flop: {}, products: [] },
    ...{ peakRss: 0, peakInUse: 0, rss: [] },
  };
  const measureStep = (): void => {
    const seconds: Partial<Record<Phase, number>> = {};
    timed = (phase, run) => {
      const ownBackward = flop.backward;
      Object.assign(flop, { forward: 0, backward: 0 });
      const begin = performance.now();
      const value = run();
      seconds[phase] = (performance.now() - begin) / 1000;
      // With checkpointing, backward calls the segments' operators, whose gradients count too.
      result.flop[phase] = phase === 'backward' ? ownBackward + flop.backward : flop.forward;
      return value;
    };
    result.losses.push(step().item());
    result.steps.push(seconds);
    result.rss.push(status('VmRSS'));
    result.peakRss = status('VmHWM');
    result.products.push(matmulRate());
  };
  for (let i = 0; i < Number(steps); i++) tidy(measureStep);
  result.peakInUse = memoryStats().cpuPeakBytes;
  return result;
}

function measureThroughput(): Throughput {
  const run = (): Tensor => tidy(step);
  const losses = Array.from({ length: warmUp }, run);
  synchronize(device);
  const begin = performance.now();
  for (let i = 0; i < Number(steps); i++) losses.push(run());
  synchronize(device);
  const seconds = (performance.now() - begin) / 1000 / Number(steps);
  const { cpuPeakBytes, gpuPeakBytes } = memoryStats(device);
  const peakBytes = device === 'cpu' ? cpuPeakBytes : gpuPeakBytes;
  return { seconds, losses: losses.map((loss) => loss.item()), peakBytes };
}

/** Runs a training step and returns the loss, on the device. */
function step(): Tensor {
  const rows = {
    ...{ latents: encode.latents(), imageFeatures: encode.image() },
    conditioning: { text: encode.text() },
    ...{ noise: input('noise'), timesteps: input('timesteps') },
  };
  const weight = ones([], { device });
  const { loss } = forwardBackward({ rows, weight });
  timed('AdamW', () => {
    optimizer.step();
    optimizer.zeroGrad({ setToNone: !isGraphed });
  });
  return loss;
}

/** Returns a field of /proc/self/status in bytes. */
function status(name: string): number {
  const line = new RegExp(`^${name}:\\s*(\\d+) kB`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return Number(line?.[1] ?? Number.NaN) * 1024;
}
