/**
 * @file Trains the VAE: `npx tsx demo/pretrain/vae.ts`. The loss is absolute and squared error plus a small KL divergence, which
 * keeps the latents close to a normal distribution; scenes without texture need no perceptual loss.
 */
import { join } from 'node:path';
import { sampleLatents } from '../../src/models/vae/autoencoder-kl.js';
import { Generator, noGrad, op, tidy } from '../../src/torch/index.js';
import { loadVAE } from '../../src/weights/load.js';
import { pick, seededRandom } from '../world/random.js';
import { sampleScenes } from '../world/scene.js';
import { initForTraining } from './initial.js';
import { newVAE, writeVAE } from './models.js';
import { readArguments, renderScenes, runTraining } from './training.js';

const SEED = 1;
const BATCH = 16;
const KL_WEIGHT = 1e-5;

const { steps, out, more } = readArguments(600);
const scenes = sampleScenes(12_000, 'train', SEED);
const random = seededRandom(SEED);
const generator = new Generator('cpu', SEED);
const vae = more ? loadVAE(join(out, 'vae'), { dtype: 'float32' }) : newVAE();
if (!more) {
  initForTraining(vae, generator, /\.(conv2|to_out\.0)\.weight$/);
  reduceInitialNoise();
}
const std = op('aten::std(Tensor self, bool unbiased=True) -> Tensor');

runTraining({
  parameters: vae.namedParameters(),
  steps,
  learningRate: 8e-4,
  saveEvery: 150,
  losses: () => {
    const batch = Array.from({ length: BATCH }, () => pick(scenes, random));
    const target = renderScenes(batch).mul(2).sub(1);
    const { mean, logvar, std } = vae.encode(target);
    const difference = vae.decode(sampleLatents({ mean, std }, generator)).sub(target);
    const divergence = mean
      .square()
      .add(logvar.exp())
      .sub(logvar)
      .add(-1)
      .sum()
      .mul(0.5 / target.numel);
    return {
      absolute: difference.abs().mean(),
      squared: difference.square().mean(),
      divergence: divergence.mul(KL_WEIGHT),
    };
  },
  save: (weights) => writeVAE(out, weights, 1 / latentSpread()),
});

/** Starts with little noise in the latents; a standard deviation of 1 would hide their content at first. */
function reduceInitialNoise(): void {
  using _ = noGrad();
  tidy(() => vae.quant_conv.bias?.slice(0, vae.config.latentChannels).add_(-6));
}

/** Returns the standard deviation of the latents of some scenes. */
function latentSpread(): number {
  using _ = noGrad();
  return tidy(() =>
    std(sampleLatents(vae.encode(renderScenes(scenes.slice(0, 256)).mul(2).sub(1)), generator)).item(),
  );
}
