/**
 * @file Benchmarks the training step of `npm start`: the demo's small models, 16 images of 64 px, encoders cached. Its time is
 * that of many small operators, not of large matrix products.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { writeAdapter } from '../src/adapters/adapter-file.js';
import { openImageEncoder } from '../src/adapters/image-encoder.js';
import { openDiffusionModel } from '../src/diffusion/open-model.js';
import { writeSafetensors } from '../src/formats/index.js';
import { AdamW } from '../src/optim/adamw.js';
import { backward, Generator, randint, randn } from '../src/torch/index.js';
import { trainingLoss } from '../src/training/loss.js';
import { createAdapter } from '../src/training/setup.js';
import { sideBySide } from './side-by-side.js';

const models = 'demo/models';

/** Prints the seconds of a step, ours and PyTorch's, measured alternately. @param python with torch */
export async function compareDemoStep(rounds: number, python: string): Promise<void> {
  const generator = new Generator('cpu', 0);
  const model = openDiffusionModel(models);
  const backbone = model.loadBackbone({ dtype: 'float32', device: 'cpu' });
  const objective = model.objective('cpu');
  const { adapter } = createAdapter(
    { backbone, imageEncoder: openImageEncoder(join(models, 'image_encoder')) },
    { numTokens: 16, seed: 0 },
    undefined,
    'cpu',
  );
  const optimizer = new AdamW({
    adapter: { parameters: adapter.namedParameters(), learningRate: 1e-4 },
  });
  const inputs = {
    latents: randn([16, 4, 8, 8], { generator }),
    noise: randn([16, 4, 8, 8], { generator }),
    timesteps: randint(0, 1000, [16], { generator }),
    conditioning: { text: randn([16, 32, 128], { generator }) },
    imageFeatures: randn([16, 65, 128], { generator }),
  };
  const step = (): void => {
    backward(trainingLoss({ backbone, objective }, adapter, inputs).loss);
    optimizer.step();
    optimizer.zeroGrad();
  };

  // Python starts with the same weights and inputs.
  const folder = mkdtempSync(join(tmpdir(), 'bench-'));
  const files = [join(folder, 'adapter.safetensors'), join(folder, 'inputs.safetensors')] as const;
  writeAdapter(files[0], adapter.namedParameters());
  const {
    conditioning: { text },
    imageFeatures: image,
    ...others
  } = inputs;
  writeSafetensors(files[1], new Map(Object.entries({ ...others, text, image })));
  try {
    await sideBySide([{ name: "the demo's step", count: 5, run: step }], {
      script: 'demo_step.py',
      args: [join(models, 'unet'), ...files],
      ...{ rounds, python },
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}
