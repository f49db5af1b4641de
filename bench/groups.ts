/**
 * @file What an adapter takes from a reference: in a world where the images of a thing share its shape and colour, but not its
 * place, size and background, trains once with references of the same thing (`--group-by`) and once with the image itself,
 * and compares what they draw with references of held-out scenes.
 *
 *     npx tsx bench/groups.ts [--seeds 3] [--steps 1000] [--per-thing 2] [--keep FOLDER]
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { DRAW, RECIPE } from '../demo/recipe.js';
import { pick, seededRandom } from '../demo/world/random.js';
import { readScene } from '../demo/world/read-scene.js';
import { renderScene, SIDE, writePng } from '../demo/world/render.js';
import {
  COLOUR_NAMES,
  PLACES,
  type Scene,
  SHAPES,
  SIZES,
  type Split,
  sceneKey,
  splitOf,
  type Thing,
} from '../demo/world/scene.js';
import { makeFolder } from '../src/base/make-folder.js';
import { shareInterval } from '../src/base/statistics.js';
import { IPAdapterPipeline, type RgbImage, type TrainOptions, train } from '../src/index.js';

const { values } = parseArgs({
  options: {
    seeds: { type: 'string', default: '3' },
    steps: { type: 'string', default: '1000' },
    'per-thing': { type: 'string', default: '2' },
    keep: { type: 'string' },
  },
});
const [seeds, maxSteps, perThing] = [values.seeds, values.steps, values['per-thing']].map(Number) as [
  number,
  number,
  number,
];
/** Images of each thing to train on. */
const IMAGES = 48;
/** Held-out references: as many for each thing. */
const references = perThing * SHAPES.length * COLOUR_NAMES.length;
const root = values.keep ?? mkdtempSync(join(tmpdir(), 'groups-'));
if (values.keep === undefined) process.on('exit', () => rmSync(root, { recursive: true, force: true }));

/** Returns distinct scenes of one thing each: as many for each shape and colour. */
function scenesOf(split: Split, perThing: number, seed: number): Scene[] {
  const random = seededRandom(seed);
  return SHAPES.flatMap((shape) =>
    COLOUR_NAMES.flatMap((colour) => {
      const scenes = new Map<string, Scene>();
      const backgrounds = COLOUR_NAMES.filter((name) => name !== colour);
      while (scenes.size < perThing) {
        const place = Math.floor(random() * PLACES.length);
        const thing: Thing = { shape, colour, size: pick(SIZES, random), place };
        const scene: Scene = { background: pick(backgrounds, random), things: [thing] };
        if (splitOf(scene) === split) scenes.set(sceneKey(scene), scene);
      }
      return [...scenes.values()];
    }),
  );
}

/** Writes the scenes to train on, without captions: the group of an image is its thing. */
async function writeGroups(folder: string): Promise<string> {
  makeFolder(folder);
  const rows = scenesOf('train', IMAGES, 1).map((scene, i) => {
    const [{ colour, shape }] = scene.things as [Thing];
    return { scene, row: { image_file: `${i}.png`, text: '', group: `${colour} ${shape}` } };
  });
  await Promise.all(rows.map(({ scene, row }) => writePng(join(folder, row.image_file), renderScene(scene))));
  const dataset = join(folder, 'dataset.json');
  writeFileSync(dataset, JSON.stringify(rows.map(({ row }) => row)));
  return dataset;
}

/** What a drawn image has in common with its reference. */
const shared: Record<string, (own: Thing, drawn: Scene, reference: Scene) => boolean> = {
  'identity: shape and colour': ({ shape, colour }, { things }) =>
    things.some((thing) => thing.shape === shape && thing.colour === colour),
  'shape alone': ({ shape }, { things }) => things.some((thing) => thing.shape === shape),
  'colour alone': ({ colour }, { things }) => things.some((thing) => thing.colour === colour),
  'layout: place and background': ({ place }, { things, background }, reference) =>
    background === reference.background && things.some((thing) => thing.place === place),
  'place alone': ({ place }, { things }) => things.some((thing) => thing.place === place),
  'background alone': (_, { background }, reference) => background === reference.background,
};

/** Returns the share of the held-out references with which a drawn image has each thing in common. */
async function measure(adapter: string, seed: number): Promise<Record<string, number>> {
  const scenes = scenesOf('held-out', perThing, 64);
  using pipeline = await IPAdapterPipeline.load({
    model: RECIPE.model,
    ...{ adapter, imageEncoder: RECIPE.imageEncoder },
  });
  const jobs = scenes.map((scene, i) => {
    const image: RgbImage = { data: renderScene(scene), width: SIDE, height: SIDE };
    return { seed: 1000 * seed + i, images: [image], prompt: '' };
  });
  const drawn = (await pipeline.generateEach(jobs, DRAW)).map(({ data }) => readScene(data));
  const count = (test: (typeof shared)[string]): number =>
    scenes.filter((scene, i) => test(scene.things[0] as Thing, drawn[i] as Scene, scene)).length;
  return Object.fromEntries(Object.entries(shared).map(([name, test]) => [name, count(test)]));
}

const dataset = await writeGroups(join(root, 'train'));
const ways: Record<string, Partial<TrainOptions>> = {
  'reference = target': {},
  'references of the group': { groupBy: ['group'] },
};
const percent = (share: number): string => (100 * share).toFixed(1).padStart(5);
for (const [way, options] of Object.entries(ways)) {
  const totals: Record<string, number> = {};
  for (let seed = 0; seed < seeds; seed++) {
    const start = performance.now();
    const { checkpoint } = await train({
      ...{ ...RECIPE, dataset, maxSteps, seed, outputDir: join(root, `${way}-${seed}`) },
      ...{ cache: 'latents,text,image', cacheDir: join(root, 'cache'), saveSteps: maxSteps },
      ...{ reportTo: 'none' as const, ...options },
    });
    const minutes = (performance.now() - start) / 60_000;
    const counts = await measure(checkpoint as string, seed);
    for (const [name, count] of Object.entries(counts)) totals[name] = (totals[name] ?? 0) + count;
    const shown = Object.entries(counts).map(([name, count]) => `${name} ${percent(count / references)}`);
    console.log(`${way}, seed ${seed}: ${shown.join('; ')}; ${minutes.toFixed(1)} min of training`);
  }
  const trials = seeds * references;
  for (const [name, count] of Object.entries(totals)) {
    const { mean, low, high } = shareInterval(count / trials, trials);
    console.log(
      `${way.padEnd(24)} ${name.padEnd(30)} ${percent(mean)} % (${percent(low)} … ${percent(high)}) of ${trials}`,
    );
  }
}
