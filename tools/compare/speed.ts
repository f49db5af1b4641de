/** @file Seconds a step, the old and the new side in turn: the machine's own speed varies, and the ratio of neighbouring runs varies less. */
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';
import { type Case, demo, type Models, training } from './cases.js';
import type { Side } from './trees.js';

/** The lowest median of old / new that passes: what is lost to noise. */
const leastRatio = 0.98;

/** bench/train.ts writes the same there. */
const fullSizeFolder = join(import.meta.dirname, '../../build/full-size');
const fullSize: Models = {
  ...demo,
  name: 'full-size',
  model: join(fullSizeFolder, 'model'),
  imageEncoder: join(fullSizeFolder, 'image_encoder'),
};

/** The step that `npm start` trains with, and one of Stable Diffusion 1.5 at 256 px. The first report of a run does not count. */
const trainings = [
  { name: 'demo', ...timed(demo, ['--cache', 'latents,text,image', '--cache-dir', 'cache/speed'], 40, 16) },
  { name: 'full-size', ...timed(fullSize, ['--resolution', '256'], 4, 1) },
];

function timed(
  models: Models,
  flags: readonly string[],
  steps: number,
  batchSize: number,
): Omit<Case, 'name'> {
  const atEnd = ['--save-steps', String(steps)];
  return { commands: training(models, 'speed', [...flags, ...atEnd], { steps, batchSize }).commands };
}

/**
 * Prints seconds a step of each pair and the median of the ratios, old / new.
 * @param pairs runs of each side that count, after one that fills caches
 * @param data where writeData has written
 * @returns whether every median is `leastRatio` or more
 */
export async function compareSpeed(
  [old, now]: readonly [Side, Side],
  data: string,
  { pairs, only }: { pairs: number; only: (name: string) => boolean },
): Promise<boolean> {
  let isFast = true;
  for (const { name, commands } of trainings.filter((one) => only(one.name))) {
    if (name === 'full-size') writeFullSize(data);
    const [words = []] = commands;
    const ratios: number[] = [];
    for (let pair = 0; pair <= pairs; pair++) {
      // Each is first as often as the other.
      const order = pair % 2 === 0 ? [old, now] : [now, old];
      const seconds = new Map<Side, number>();
      for (const side of order) seconds.set(side, await stepSeconds(side, words));
      if (pair === 0) continue;
      const [oldSeconds, newSeconds] = [seconds.get(old) as number, seconds.get(now) as number];
      ratios.push(oldSeconds / newSeconds);
      console.log(
        `${name} step, pair ${pair}: old ${oldSeconds.toFixed(4)} s, new ${newSeconds.toFixed(4)} s, old / new ${(oldSeconds / newSeconds).toFixed(3)}`,
      );
    }
    const ratio = median(ratios);
    const verdict = ratio >= leastRatio ? 'as fast' : `slower: expected ${leastRatio} or more`;
    console.log(`${name} step: median of old / new ${ratio.toFixed(3)}, ${verdict}`);
    isFast &&= ratio >= leastRatio;
  }
  return isFast;
}

/** The median of a run's reports, which come twice a second or once a step, whichever is longer. */
async function stepSeconds(side: Side, words: readonly string[]): Promise<number> {
  const output = join(side.folder, words[words.indexOf('--output_dir') + 1] as string);
  rmSync(output, { recursive: true, force: true });
  await side.run(words);
  const lines = readFileSync(join(output, 'metrics.jsonl'), 'utf8').trim().split('\n');
  const reported = lines.map((line) => JSON.parse(line)['speed/step_seconds'] as unknown);
  const seconds = reported.filter((value) => typeof value === 'number').slice(1);
  if (seconds.length === 0)
    throw new Error(`Expected speed/step_seconds in ${join(output, 'metrics.jsonl')}`);
  return median(seconds);
}

function median(values: readonly number[]): number {
  const sorted = values.toSorted((x, y) => x - y);
  const [low, high] = [(sorted.length - 1) >> 1, sorted.length >> 1];
  return ((sorted[low] as number) + (sorted[high] as number)) / 2;
}

/** In a process of its own, which gives back what writing gigabytes has taken. */
function writeFullSize(data: string): void {
  const script = join(import.meta.dirname, 'write-full-size.ts');
  execFileSync(process.execPath, ['--import', 'tsx', script, fullSizeFolder], { stdio: 'inherit' });
  // Any tokenizer whose ids the text encoder has serves.
  const tokenizer = join(fullSize.model, 'tokenizer');
  if (!existsSync(tokenizer)) cpSync(join(data, 'golden/model/tokenizer'), tokenizer, { recursive: true });
}
