/** @file Shared by the training scripts: the loop with learning-rate schedule and averaged weights, and image tensors. */
import { parseArgs } from 'node:util';
import { AdamW } from '../../src/optim/adamw.js';
import { backward, noGrad, setNumThreads, type Tensor, tensor, tidy } from '../../src/torch/index.js';
import { renderScene, SIDE } from '../world/render.js';
import type { Scene } from '../world/scene.js';

export interface Arguments {
  steps: number;
  /** The folder of the models. */
  out: string;
  /** Whether to continue from the existing weights. */
  more: boolean;
}

/** Reads `--steps N`, `--out FOLDER`, `--more` and `--threads N` (default: every core). */
export function readArguments(defaultSteps: number): Arguments {
  const { values } = parseArgs({
    options: {
      steps: { type: 'string', default: String(defaultSteps) },
      out: { type: 'string', default: 'demo/models' },
      more: { type: 'boolean', default: false },
      threads: { type: 'string' },
    },
  });
  if (values.threads !== undefined) setNumThreads(Number(values.threads));
  return { steps: Number(values.steps), out: values.out, more: values.more };
}

export interface Training {
  /** Trainable parameters by name. */
  parameters: ReadonlyMap<string, Tensor>;
  steps: number;
  learningRate: number;
  /** Returns a step's losses, whose sum is minimised; runs inside a tidy scope. */
  losses(): Record<string, Tensor>;
  /** Saves the averaged weights; called every `saveEvery` steps and at the end. */
  save(averages: ReadonlyMap<string, Tensor>): void;
  saveEvery: number;
}

const WARM_UP = 50;
const LOG_EVERY = 25;

/**
 * Trains with AdamW, a warm-up and a cosine schedule. The moving average of the weights is saved, which generates better
 * images than the last step's weights (Ho et al. 2020, section 4).
 */
export function runTraining({ parameters, steps, learningRate, losses, save, saveEvery }: Training): void {
  for (const parameter of parameters.values()) parameter.requiresGrad = true;
  const optimizer = new AdamW({ model: { parameters, learningRate } }, { betas: [0.9, 0.99] });
  const averages = copies(parameters);
  const sums = new Map<string, number>();
  const start = performance.now();
  for (let step = 1; step <= steps; step++) {
    const cosine = 0.5 + 0.5 * Math.cos((Math.PI * step) / steps);
    optimizer.learningRateFactor = Math.min(1, step / WARM_UP) * (0.02 + 0.98 * cosine);
    tidy(() => {
      const parts = Object.entries(losses());
      backward(parts.map(([, loss]) => loss).reduce((sum, loss) => sum.add(loss)));
      optimizer.step();
      optimizer.zeroGrad();
      for (const [name, loss] of parts) sums.set(name, (sums.get(name) ?? 0) + loss.detach().item());
    });
    average(averages, parameters, Math.min(0.998, step / (step + 20)));
    if (step % LOG_EVERY === 0) {
      const shown = [...sums].map(([name, sum]) => `${name} ${(sum / LOG_EVERY).toFixed(4)}`).join('  ');
      console.log(`step ${step} of ${steps}  ${Math.round((performance.now() - start) / 1000)} s  ${shown}`);
      sums.clear();
    }
    if (step % saveEvery === 0 || step === steps) save(averages);
  }
}

function copies(parameters: ReadonlyMap<string, Tensor>): Map<string, Tensor> {
  using _ = noGrad();
  return new Map(Array.from(parameters, ([name, parameter]) => [name, parameter.detach().clone()]));
}

function average(
  averages: ReadonlyMap<string, Tensor>,
  parameters: ReadonlyMap<string, Tensor>,
  decay: number,
): void {
  using _ = noGrad();
  tidy(() => {
    for (const [name, mean] of averages) mean.mul_(decay).add_(parameters.get(name) as Tensor, 1 - decay);
  });
}

/** Renders scenes as images in 0 … 1, [batch, 3, SIDE, SIDE]. */
export function renderScenes(scenes: readonly Scene[]): Tensor {
  return imageTensor(scenes.map(renderScene));
}

/** Images of SIDE × SIDE × 3 bytes → 0 … 1, [batch, 3, SIDE, SIDE] */
export function imageTensor(images: readonly Uint8Array[]): Tensor {
  const bytes = new Uint8Array(images.length * SIDE * SIDE * 3);
  for (const [i, image] of images.entries()) bytes.set(image, i * SIDE * SIDE * 3);
  return tidy(() =>
    tensor(bytes, [images.length, SIDE, SIDE, 3])
      .permute(0, 3, 1, 2)
      .to('float32')
      .contiguous()
      .mul_(1 / 255),
  );
}

/** Normalises images in 0 … 1 with OpenAI CLIP's mean and standard deviation. */
export function clipPixels(images: Tensor): Tensor {
  return tidy(() => {
    const mean = tensor([0.48145466, 0.4578275, 0.40821073], [1, 3, 1, 1]);
    const std = tensor([0.26862954, 0.26130258, 0.27577711], [1, 3, 1, 1]);
    return images.sub(mean).div(std);
  });
}

/** Computes with models that are not trained. */
export function frozen<T>(compute: () => T): T {
  using _ = noGrad();
  return tidy(compute);
}
