/** @file Writes scenes as a dataset for `ip-adapter train`: images and a JSON list. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../../src/base/make-folder.js';
import { fullCaption, sparseCaption } from './caption.js';
import { seededRandom } from './random.js';
import { renderScene, writePng } from './render.js';
import { type Split, sampleScenes } from './scene.js';

export interface DatasetOptions {
  count: number;
  split: Split;
  seed: number;
}

/**
 * Renders scenes into a folder: 0000.png … and `dataset.json`. Captions of the training split are sparse, as adapters need
 * them; those of held-out scenes are complete.
 * @returns the path of `dataset.json`
 */
export async function writeDataset(folder: string, { count, split, seed }: DatasetOptions): Promise<string> {
  makeFolder(folder);
  const random = seededRandom(seed);
  const rows = sampleScenes(count, split, seed).map((scene, i) => ({
    image_file: `${String(i).padStart(4, '0')}.png`,
    text: split === 'train' ? sparseCaption(scene, random) : fullCaption(scene),
    scene,
  }));
  await Promise.all(
    rows.map(({ image_file, scene }) => writePng(join(folder, image_file), renderScene(scene))),
  );
  const dataset = join(folder, 'dataset.json');
  const list = rows.map(({ image_file, text }) => ({ image_file, text }));
  writeFileSync(dataset, `${JSON.stringify(list, null, 2)}\n`);
  return dataset;
}
