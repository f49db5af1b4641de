/**
 * @file Measures the demo's models on held-out scenes: `npx tsx demo/pretrain/measure.ts [--sheet FILE.png]`. With `--sheet`
 * it also writes the generated images beside the rendered scenes.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ClipTokenizer } from '../../src/models/clip/clip-tokenizer.js';
import { DDPMScheduler } from '../../src/schedulers/ddpm.js';
import { Generator, noGrad, type Tensor, tensor, tidy } from '../../src/torch/index.js';
import { loadImageEncoder } from '../../src/weights/image-encoders.js';
import { loadTextEncoder, loadUNet, loadVAE } from '../../src/weights/load.js';
import { fullCaption } from '../world/caption.js';
import { type Attribute, compareScenes, readScene } from '../world/read-scene.js';
import { renderScene, writePng } from '../world/render.js';
import { type Scene, sampleScenes, sceneKey } from '../world/scene.js';
import { contactSheet, generateImages, toBytes } from './sample.js';
import { clipPixels, renderScenes } from './training.js';

const { values: options } = parseArgs({
  options: {
    models: { type: 'string', default: 'demo/models' },
    sheet: { type: 'string' },
    scenes: { type: 'string', default: '64' },
    guidance: { type: 'string', default: '3' },
    steps: { type: 'string', default: '20' },
  },
});
const folder = (name: string) => join(options.models, name);
const float32 = { dtype: 'float32' } as const;
const imageEncoder = loadImageEncoder(folder('image_encoder'), float32);
const models = {
  vae: loadVAE(folder('vae'), float32),
  textEncoder: loadTextEncoder(folder('text_encoder'), float32),
  tokenizer: ClipTokenizer.load(folder('tokenizer')),
  unet: loadUNet(folder('unet'), float32),
  scheduler: DDPMScheduler.fromConfig(folder('scheduler')),
};
const scenes = sampleScenes(Number(options.scenes), 'held-out', 64);
const captions = scenes.map(fullCaption);
const rendered = scenes.map(renderScene);
using _ = noGrad();

const originals = renderScenes(scenes);
const target = originals.mul(2).sub(1);
const decoded = models.vae.call(target).clamp(-1, 1);
const error = decoded.sub(target).square().mean().item() / 4;
console.log(`VAE: ${(-10 * Math.log10(error)).toFixed(1)} dB PSNR of reconstructions`);
report('VAE', toBytes(decoded));

const images = embedImages(originals);
const texts = embedTexts(captions);
console.log(
  `CLIP, among ${scenes.length}: image → its caption ${percent(top1(images, texts))}, caption → its image ${percent(top1(texts, images))}`,
);
console.log(
  `CLIP: ${percent(top1(embedImages(decoded.add(1).mul(0.5)), images))} of reconstructions are closest to their own image`,
);
console.log(`CLIP: cosine similarity of different images ${pairs(images)}`);

const generator = new Generator('cpu', 1);
const generated = generateImages(models, captions, {
  generator,
  guidance: Number(options.guidance),
  steps: Number(options.steps),
});
report('text to image', generated);
const generatedEmbeddings = embedImages(fromBytes(generated));
console.log(
  `text to image: ${percent(top1(generatedEmbeddings, images))} of images are closest to the rendered scene of their caption, ${percent(top1(generatedEmbeddings, texts))} to their caption`,
);

if (options.sheet !== undefined) {
  const rows = Array.from({ length: Math.ceil(scenes.length / 16) }, (_, i) => i * 16);
  const sheet = contactSheet(
    rows.flatMap((from) => [...rendered.slice(from, from + 16), ...generated.slice(from, from + 16)]),
    16,
  );
  await writePng(options.sheet, sheet.data, sheet.width, sheet.height);
}

/** Prints the share of images with the right value of each attribute, read from their pixels. */
function report(what: string, images: readonly Uint8Array[]): void {
  const sums = new Map<string, { right: number; all: number }>();
  const add = (name: string, right: number, all: number): void => {
    const sum = sums.get(name) ?? { right: 0, all: 0 };
    sums.set(name, { right: sum.right + right, all: sum.all + all });
  };
  for (const [i, image] of images.entries()) {
    const expected = scenes[i] as Scene;
    const seen = readScene(image);
    const counts = compareScenes(expected, seen);
    for (const name of Object.keys(counts) as Attribute[]) add(name, counts[name].right, counts[name].all);
    add('everything', Number(sceneKey(expected) === sceneKey(seen)), 1);
  }
  const parts = Array.from(sums, ([name, { right, all }]) => `${name} ${percent(right / all)}`);
  console.log(`${what}: ${parts.join(', ')}`);
}

function embedImages(pixels: Tensor): Tensor {
  return tidy(() => normalised(imageEncoder.call(clipPixels(pixels))));
}

function embedTexts(sentences: readonly string[]): Tensor {
  const { tokenizer, textEncoder } = models;
  const ids = sentences.flatMap((sentence) => tokenizer.encode(sentence));
  return tidy(() =>
    normalised(textEncoder.call(tensor(ids, [sentences.length, tokenizer.maxLength], 'int64')).poolerOutput),
  );
}

function fromBytes(all: readonly Uint8Array[]): Tensor {
  const length = (all[0] as Uint8Array).length;
  const side = Math.sqrt(length / 3);
  const bytes = new Uint8Array(all.length * length);
  for (const [i, image] of all.entries()) bytes.set(image, i * length);
  return tidy(() =>
    tensor(bytes, [all.length, side, side, 3])
      .permute(0, 3, 1, 2)
      .to('float32')
      .mul(1 / 255)
      .contiguous(),
  );
}

function normalised(embeddings: Tensor): Tensor {
  return embeddings.div(embeddings.square().sum([-1], true).sqrt());
}

/** Returns the share of queries whose closest key has the same index. */
function top1(queries: Tensor, keys: Tensor): number {
  const nearest = tidy(() => queries.matmul(keys.transpose(0, 1)).argmax(1).toNumbers());
  return nearest.filter((index, i) => index === i).length / nearest.length;
}

function pairs(embeddings: Tensor): string {
  const count = embeddings.shape[0] as number;
  const all = tidy(() => embeddings.matmul(embeddings.transpose(0, 1)).toNumbers());
  const different = all.filter((_, i) => Math.floor(i / count) !== i % count);
  const mean = different.reduce((sum, cosine) => sum + cosine, 0) / different.length;
  return `${mean.toFixed(3)} on average, ${Math.max(...different).toFixed(3)} at most`;
}

function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`;
}
