/**
 * @file Whether text still counts beside a picture: each caption asks for a background that the picture does not have,
 * and says nothing of where its things are. What is drawn is read off the pixels.
 *
 *     npx tsx demo/text.ts [adapter file or checkpoint folder]    default: the newest of `npm start`
 */

import { IPAdapterPipeline } from '../src/index.js';
import { compareScenes, readScene } from './world/read-scene.js';
import { renderScene, SIDE } from './world/render.js';
import { COLOUR_NAMES, type Colour, type Scene, sampleScenes } from './world/scene.js';

const COUNT = 64;
const adapter = process.argv[2] ?? 'demo-out/adapter';
const pipeline = await IPAdapterPipeline.load({
  model: 'demo/models',
  imageEncoder: 'demo/models/image_encoder',
  adapter,
});

/** The next colour that neither the background nor a thing has. */
function otherColour({ background, things }: Scene): Colour {
  const taken = [background, ...things.map(({ colour }) => colour)];
  const start = COLOUR_NAMES.indexOf(background);
  return COLOUR_NAMES.map((_, i) => COLOUR_NAMES[(start + i) % COLOUR_NAMES.length] as Colour).find(
    (colour) => !taken.includes(colour),
  ) as Colour;
}

const scenes = sampleScenes(COUNT, 'held-out', 64);
const jobs = scenes.map((scene, seed) => ({
  seed,
  images: [{ data: renderScene(scene), width: SIDE, height: SIDE }],
  prompt: `${scene.things.map(({ shape }) => `a ${shape}`).join(' and ')} on a ${otherColour(scene)} background`,
}));

console.log(`${COUNT} held-out pictures as prompts, each with a caption like "${jobs[0]?.prompt}"`);
console.log('scale   background as the text says   as the picture has   things where the picture has them');
for (const scale of [0, 0.5, 1]) {
  const pictures = await pipeline.generateEach(jobs, { scale, steps: 20, guidanceScale: 3, batchSize: 32 });
  const seen = pictures.map(({ data }) => readScene(data));
  const share = (test: (wanted: Scene, got: Scene) => boolean): string =>
    `${((100 * scenes.filter((scene, i) => test(scene, seen[i] as Scene)).length) / COUNT).toFixed(0)} %`;
  const asked = share((scene, got) => got.background === otherColour(scene));
  const kept = share((scene, got) => got.background === scene.background);
  const placed = share((scene, got) => compareScenes(scene, got).place.right === scene.things.length);
  console.log(`${scale}`.padEnd(8) + asked.padEnd(30) + kept.padEnd(21) + placed);
}
