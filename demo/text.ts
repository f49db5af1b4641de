/**
 * @file Measures whether text still counts beside a reference image: each caption asks for a background that the reference
 * does not have, and says nothing of where its things are. The generated scene is read from the pixels.
 *
 *     npx tsx demo/text.ts [adapter file, checkpoint or output folder]    default: the newest checkpoint of `npm start`
 */

import { IPAdapterPipeline } from '../src/index.js';
import { captionOnOtherBackground, otherBackground } from './other-background.js';
import { compareScenes, readScene } from './world/read-scene.js';
import { renderScene, SIDE } from './world/render.js';
import { type Scene, sampleScenes } from './world/scene.js';

const COUNT = 64;
const adapter = process.argv[2] ?? 'demo-out/adapter';
const pipeline = await IPAdapterPipeline.load({
  model: 'demo/models',
  imageEncoder: 'demo/models/image_encoder',
  adapter,
});

const scenes = sampleScenes(COUNT, 'held-out', 64);
const jobs = scenes.map((scene, seed) => ({
  seed,
  images: [{ data: renderScene(scene), width: SIDE, height: SIDE }],
  prompt: captionOnOtherBackground(scene),
}));

console.log(`${COUNT} held-out images as prompts, each with a caption like "${jobs[0]?.prompt}"`);
console.log('scale   background as the text says   as the image has   things where the image has them');
for (const scale of [0, 0.5, 1]) {
  const images = await pipeline.generateEach(jobs, { scale, steps: 20, guidanceScale: 3, batchSize: 32 });
  const seen = images.map(({ data }) => readScene(data));
  const share = (test: (wanted: Scene, got: Scene) => boolean): string =>
    `${((100 * scenes.filter((scene, i) => test(scene, seen[i] as Scene)).length) / COUNT).toFixed(0)} %`;
  const asked = share((scene, got) => got.background === otherBackground(scene));
  const kept = share((scene, got) => got.background === scene.background);
  const placed = share((scene, got) => compareScenes(scene, got).place.right === scene.things.length);
  console.log(`${scale}`.padEnd(8) + asked.padEnd(30) + kept.padEnd(19) + placed);
}
