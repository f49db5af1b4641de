/**
 * @file Trains CLIP's text and image encoder: `npx tsx demo/pretrain/clip.ts`. The loss is contrastive between images and
 * captions in both directions (Radford et al., arXiv 2103.00020, figure 3), plus those of the auxiliary heads. The text
 * embedding is the pooled state itself, because Stable Diffusion's text encoder has no text projection.
 */
import { join } from 'node:path';
import { ClipTokenizer } from '../../src/models/clip/clip-tokenizer.js';
import { initParameters } from '../../src/nn/init.js';
import type { Module } from '../../src/nn/module.js';
import { Generator, type Tensor, tensor } from '../../src/torch/index.js';
import { captionWords, randomCaption } from '../world/caption.js';
import { pick, seededRandom } from '../world/random.js';
import { sampleScenes } from '../world/scene.js';
import { AttributeHead, crossEntropy, PatchHead } from './attributes.js';
import {
  MAX_TOKENS,
  newImageEncoder,
  newTextEncoder,
  writeImageEncoder,
  writeTextEncoder,
} from './models.js';
import { writeTokenizer } from './tokenizer.js';
import { clipPixels, readArguments, renderScenes, runTraining } from './training.js';

const SEED = 2;
const BATCH = 32;
/** The temperature of the similarities. It is fixed, because learning it slows the start of training. */
const TEMPERATURE = 0.07;

const { steps, out } = readArguments(900);
const tokens = writeTokenizer(join(out, 'tokenizer'), captionWords(), MAX_TOKENS);
const tokenizer = ClipTokenizer.load(join(out, 'tokenizer'));
const scenes = sampleScenes(20_000, 'train', SEED);
const random = seededRandom(SEED);
const generator = new Generator('cpu', SEED);
const textEncoder = newTextEncoder(tokens);
const imageEncoder = newImageEncoder();
const head = new AttributeHead(imageEncoder.config.projectionDim);
const patchHead = new PatchHead(imageEncoder.config.hiddenSize);
const parts = { text: textEncoder, image: imageEncoder, head, patchHead };
for (const part of Object.values<unknown>(parts)) initParameters(part as Module, generator);

runTraining({
  parameters: new Map(
    Object.entries(parts).flatMap(([name, part]) =>
      Array.from(part.namedParameters(), ([key, parameter]) => [`${name}.${key}`, parameter] as const),
    ),
  ),
  steps,
  learningRate: 1e-3,
  saveEvery: 250,
  losses: () => {
    const batch = Array.from({ length: BATCH }, () => pick(scenes, random));
    const ids = batch.flatMap((scene) => tokenizer.encode(randomCaption(scene, random)));
    const texts = textEncoder.call(tensor(ids, [BATCH, MAX_TOKENS], 'int64')).poolerOutput;
    // The penultimate states, which IP-Adapter Plus uses, and the last layer applied to them.
    const states = imageEncoder.hiddenStates(clipPixels(renderScenes(batch)), -2);
    const images = imageEncoder.pool(imageEncoder.vision_model.encoder.layers.at(-1)?.call(states) as Tensor);
    const similarity = normalised(images).matmul(normalised(texts).transpose(0, 1)).div(TEMPERATURE);
    const matching = batch.map((_, i) => i);
    return {
      contrast: crossEntropy(similarity, matching)
        .add(crossEntropy(similarity.transpose(0, 1), matching))
        .mul(0.5),
      patches: patchHead.call(states, batch).mul(3),
      image: head.call(images, batch),
      text: head.call(texts, batch).mul(0.5),
    };
  },
  save: (weights) => {
    const of = (part: string): Map<string, Tensor> =>
      new Map(
        [...weights]
          .filter(([key]) => key.startsWith(`${part}.`))
          .map(([key, w]) => [key.slice(part.length + 1), w]),
      );
    writeTextEncoder(out, of('text'), tokens);
    writeImageEncoder(out, of('image'));
  },
});

function normalised(embeddings: Tensor): Tensor {
  return embeddings.div(embeddings.square().sum([-1], true).sqrt());
}
