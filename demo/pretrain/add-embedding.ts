/**
 * @file Trains what the demo's SDXL has more than its Stable Diffusion, `add_embedding`: `npx tsx demo/pretrain/add-embedding.ts`.
 * The rest of the UNet is frozen. Half of the images were small and are enlarged, so that the original size says how sharp an
 * image is (Podell et al., arXiv 2307.01952, section 2.2). A tenth of the captions are empty, for classifier-free guidance.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { makeFolder } from '../../src/base/make-folder.js';
import { addedConditionOf } from '../../src/diffusion/added-condition.js';
import { openModelParts } from '../../src/diffusion/model-parts.js';
import { stableDiffusionXL } from '../../src/diffusion/stable-diffusion-xl.js';
import { writeSafetensors } from '../../src/formats/index.js';
import { trainCrop } from '../../src/images/train-transform.js';
import { sampleLatents } from '../../src/models/vae/autoencoder-kl.js';
import { mseLoss } from '../../src/nn/functional.js';
import { DDPMScheduler } from '../../src/schedulers/ddpm.js';
import {
  cat,
  Generator,
  noGrad,
  randint,
  randn,
  type Tensor,
  tensor,
  tidy,
  zeros,
} from '../../src/torch/index.js';
import { addEmbeddingFile, writeModelsXL } from '../models-xl.js';
import { randomCaption } from '../world/caption.js';
import { pick, seededRandom } from '../world/random.js';
import { renderScene, SIDE } from '../world/render.js';
import { type Scene, sampleScenes } from '../world/scene.js';
import { initForTraining } from './initial.js';
import { frozen, imageTensor, readArguments, runTraining } from './training.js';

const [BATCH, SCENES, EMPTY_CAPTIONS] = [24, 8000, 0.1];
/** The original sizes of enlarged images. */
const SMALL = [16, 24, 32, 48];

const { steps } = readArguments(800);
const random = seededRandom(7);
const generator = new Generator('cpu', 7);
const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-demo-xl-'));
const width = 320;
// Replaced below; the folder must be a complete model.
const none = new Map(
  ['linear_1', 'linear_2'].flatMap((layer) => [
    [`${layer}.weight`, zeros([width, width])] as const,
    [`${layer}.bias`, zeros([width])] as const,
  ]),
);
writeModelsXL(folder, none);
const parts = openModelParts(folder);
const model = stableDiffusionXL(parts);
const options = { device: 'cpu', dtype: 'float32' } as const;
const unet = parts.loadUNet(options);
const vae = parts.loadVAE(options);
const textEncoder = model.loadTextEncoder(options);
const tokenizer = model.tokenizer();
const scheduler = DDPMScheduler.fromConfig(join(folder, 'scheduler'));
rmSync(folder, { recursive: true });
const addEmbedding = unet.add_embedding;
if (addEmbedding === null) throw new Error('the UNet has no add_embedding');
initForTraining(addEmbedding, generator, /^linear_2\.weight$/);

const scenes = sampleScenes(SCENES, 'train', 7);
const originals = scenes.map(() => (random() < 0.5 ? SIDE : pick(SMALL, random)));
const latents = encodeAll();
console.log(`encoded the latents of ${SCENES} images`);

runTraining({
  parameters: addEmbedding.namedParameters(),
  steps,
  learningRate: 1e-3,
  saveEvery: 200,
  losses: () => {
    const chosen = Array.from({ length: BATCH }, () => Math.floor(random() * SCENES));
    const captions = chosen.map((i) =>
      random() < EMPTY_CAPTIONS ? '' : randomCaption(scenes[i] as Scene, random),
    );
    const rows = latents.indexSelect(0, tensor(chosen, [BATCH], 'int64'));
    const ids = captions.flatMap((caption) => tokenizer.encode(caption));
    const text = frozen(() => textEncoder.condition(tensor(ids, [BATCH, ...tokenizer.shape], 'int64'), 0));
    const sizes = chosen.map((i) => sizesOf(originals[i] as number));
    const conditioning = { ...text, ...model.sizeConditioning?.(sizes, 'cpu') };
    const noise = randn(rows.shape, { generator });
    const timesteps = randint(0, scheduler.numTrainTimesteps, [BATCH], { generator });
    const noisy = scheduler.addNoise(rows, noise, timesteps);
    const prediction = unet.call(noisy, timesteps, conditioning.text, addedConditionOf(conditioning));
    return { loss: mseLoss(prediction, scheduler.target(rows, noise, timesteps)) };
  },
  save: (weights) => {
    makeFolder(dirname(addEmbeddingFile));
    using _ = noGrad();
    tidy(() => {
      const halves = new Map(Array.from(weights, ([name, weight]) => [name, weight.to('float16')]));
      writeSafetensors(addEmbeddingFile, halves, { format: 'pt' });
    });
  },
});

function sizesOf(original: number) {
  const square = (side: number) => ({ width: side, height: side });
  return { original: square(original), crop: { top: 0, left: 0 }, target: square(SIDE) };
}

/** Encodes a sample of each image's scaled latents. */
function encodeAll(): Tensor {
  const batches: Tensor[] = [];
  for (let from = 0; from < SCENES; from += BATCH) {
    const images = scenes.slice(from, from + BATCH).map((scene, i) => {
      const image = { data: renderScene(scene), width: SIDE, height: SIDE };
      const side = originals[from + i] as number;
      const square = (length: number) => ({ width: length, height: length });
      return side === SIDE ? image.data : trainCrop(trainCrop(image, square(side)), square(SIDE)).data;
    });
    const pixels = imageTensor(images);
    batches.push(
      frozen(() => sampleLatents(vae.encode(pixels.mul(2).sub(1)), generator).mul(vae.config.scalingFactor)),
    );
    pixels.dispose();
  }
  return tidy(() => cat(batches));
}
