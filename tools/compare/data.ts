/**
 * @file What the commands of a comparison read, written once for both sides: the demo's scenes and models, the golden
 * models of the tests, and copies of both whose scheduler predicts the other target.
 */
import { cpSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { writeDataset } from '../../demo/world/dataset.js';
import { makeWorld } from '../../test/e2e/world.js';

/** No multiple of a batch size in use: the last batch of each epoch is a partial one. */
const sceneCount = 70;

/**
 * Writes into `folder`:
 *
 *     scenes/  shapes/         dataset.json and PNG files: the demo's, and the same stretched to several shapes
 *     held-out/                8 scenes that are in neither
 *     demo/  demo-other/       models; -other predicts noise where the first predicts velocity, or the reverse
 *     golden/  golden-other/   the same of the golden models, each with its dataset.json and its images/
 */
export async function writeData(folder: string): Promise<void> {
  const at = (...parts: string[]): string => join(folder, ...parts);
  await writeDataset(at('scenes'), { count: sceneCount, split: 'train', seed: 1 });
  await writeDataset(at('held-out'), { count: 8, split: 'held-out', seed: 64 });
  await stretch(at('scenes'), at('shapes'));
  cpSync(join(import.meta.dirname, '../../demo/models'), at('demo'), { recursive: true });
  const world = await makeWorld();
  cpSync(world.root, at('golden'), { recursive: true });
  world.remove();
  await stretch(at('golden', 'images'), at('golden', 'shapes'));
  for (const [models, scheduler] of [
    ['demo', 'scheduler'],
    ['golden', 'model/scheduler'],
  ] as const) {
    cpSync(at(models), at(`${models}-other`), { recursive: true });
    predictOther(at(`${models}-other`, scheduler, 'scheduler_config.json'));
  }
}

/** Copies a folder of images, stretched to shapes from wide to tall. */
async function stretch(from: string, to: string): Promise<void> {
  const shapes = [
    [64, 64],
    [96, 64],
    [64, 112],
    [90, 72],
  ] as const;
  mkdirSync(to);
  for (const [i, file] of readdirSync(from).sort().entries()) {
    if (!file.endsWith('.png')) {
      cpSync(join(from, file), join(to, file));
      continue;
    }
    const [width, height] = shapes[i % shapes.length] as (typeof shapes)[number];
    await sharp(join(from, file)).resize(width, height, { fit: 'fill' }).png().toFile(join(to, file));
  }
}

function predictOther(file: string): void {
  const config = JSON.parse(readFileSync(file, 'utf8'));
  const isVelocity = config.prediction_type === 'v_prediction';
  writeFileSync(
    file,
    JSON.stringify({ ...config, prediction_type: isVelocity ? 'epsilon' : 'v_prediction' }),
  );
}
