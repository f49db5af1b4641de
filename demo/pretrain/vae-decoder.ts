/**
 * @file Continues training the VAE's decoder alone: `npx tsx demo/pretrain/vae-decoder.ts`. Latents do not change, so it can run
 * while the UNet trains; generated images become sharper.
 */
import { join } from 'node:path';
import { sampleLatents } from '../../src/models/vae/autoencoder-kl.js';
import { Generator, noGrad, type Tensor, tidy } from '../../src/torch/index.js';
import { loadVAE } from '../../src/weights/load.js';
import { pick, seededRandom } from '../world/random.js';
import { sampleScenes } from '../world/scene.js';
import { writeVAE } from './models.js';
import { readArguments, renderScenes, runTraining } from './training.js';

const SEED = 4;
const BATCH = 16;

const { steps, out } = readArguments(700);
const scenes = sampleScenes(12_000, 'train', SEED);
const random = seededRandom(SEED);
const generator = new Generator('cpu', SEED);
const vae = loadVAE(join(out, 'vae'), { dtype: 'float32' });
const all = vae.namedParameters();
const isDecoder = (name: string): boolean => /^(decoder|post_quant_conv)\./.test(name);

runTraining({
  parameters: new Map([...all].filter(([name]) => isDecoder(name))),
  steps,
  learningRate: 8e-4,
  saveEvery: 200,
  losses: () => {
    const target = renderScenes(Array.from({ length: BATCH }, () => pick(scenes, random)))
      .mul(2)
      .sub(1);
    const difference = vae.decode(latentsOf(target)).sub(target);
    return { absolute: difference.abs().mean(), squared: difference.square().mean() };
  },
  save: (weights) => writeVAE(out, new Map([...all, ...weights]), vae.config.scalingFactor),
});

function latentsOf(images: Tensor): Tensor {
  using _ = noGrad();
  return tidy(() => sampleLatents(vae.encode(images), generator));
}
