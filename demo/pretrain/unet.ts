/**
 * @file Trains the UNet on captioned scenes: `npx tsx demo/pretrain/unet.ts`, after vae.ts and clip.ts. Latents are encoded
 * once, before training. A tenth of the captions are empty, for classifier-free guidance.
 */
import { join } from 'node:path';
import { ClipTokenizer } from '../../src/models/clip/clip-tokenizer.js';
import { sampleLatents } from '../../src/models/vae/autoencoder-kl.js';
import { mseLoss } from '../../src/nn/functional.js';
import { DDPMScheduler } from '../../src/schedulers/ddpm.js';
import { cat, Generator, randint, randn, type Tensor, tensor, tidy } from '../../src/torch/index.js';
import { loadTextEncoder, loadUNet, loadVAE } from '../../src/weights/load.js';
import { randomCaption } from '../world/caption.js';
import { seededRandom } from '../world/random.js';
import { type Scene, sampleScenes } from '../world/scene.js';
import { initForTraining } from './initial.js';
import { newUNet, writePipeline, writeUNet } from './models.js';
import { textStates } from './sample.js';
import { frozen, readArguments, renderScenes, runTraining } from './training.js';

const BATCH = 24;
const EMPTY_CAPTIONS = 0.1;

const { steps, out, more } = readArguments(3000);
// Continued training uses more scenes than before, and other scenes and noise.
const [seed, sceneCount] = more ? [4, 20_000] : [3, 10_000];
const vae = loadVAE(join(out, 'vae'), { dtype: 'float32' });
const textEncoder = loadTextEncoder(join(out, 'text_encoder'), { dtype: 'float32' });
const tokenizer = ClipTokenizer.load(join(out, 'tokenizer'));
writePipeline(out);
const scheduler = DDPMScheduler.fromConfig(join(out, 'scheduler'));
const random = seededRandom(seed);
const generator = new Generator('cpu', seed);
const unet = more ? loadUNet(join(out, 'unet'), { dtype: 'float32' }) : newUNet();
if (!more) initForTraining(unet, generator, /\.(conv2|proj_out)\.weight$|^conv_out\.weight$/);

const scenes = sampleScenes(sceneCount, 'train', seed);
const latents = encodeAll(scenes);
console.log(`encoded the latents of ${sceneCount} images`);

runTraining({
  parameters: unet.namedParameters(),
  steps,
  learningRate: 7e-4,
  saveEvery: 250,
  losses: () => {
    const chosen = Array.from({ length: BATCH }, () => Math.floor(random() * sceneCount));
    const captions = chosen.map((i) =>
      random() < EMPTY_CAPTIONS ? '' : randomCaption(scenes[i] as Scene, random),
    );
    const rows = latents.indexSelect(0, tensor(chosen, [BATCH], 'int64'));
    const text = frozen(() => textStates({ tokenizer, textEncoder }, captions));
    const noise = randn(rows.shape, { generator });
    const timesteps = randint(0, scheduler.numTrainTimesteps, [BATCH], { generator });
    const prediction = unet.call(scheduler.addNoise(rows, noise, timesteps), timesteps, text);
    return { loss: mseLoss(prediction, scheduler.target(rows, noise, timesteps)) };
  },
  save: (weights) => writeUNet(out, weights),
});

/** Encodes a sample of each scene's scaled latents; one is enough, since its deviation is about a hundredth of that of all latents. */
function encodeAll(all: readonly Scene[]): Tensor {
  const batches: Tensor[] = [];
  for (let from = 0; from < all.length; from += BATCH) {
    const images = renderScenes(all.slice(from, from + BATCH));
    batches.push(
      frozen(() => sampleLatents(vae.encode(images.mul(2).sub(1)), generator).mul(vae.config.scalingFactor)),
    );
    images.dispose();
  }
  return tidy(() => cat(batches));
}
