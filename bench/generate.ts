/**
 * @file Benchmarks generation at full size beside diffusers: Stable Diffusion 1.5 with a Plus adapter, random float32 weights,
 * guidance, one image, from the same features of a reference. Both sides are processes that load the same files and generate
 * in turn; each image is one from the call to the pixels.
 *
 *     npx tsx bench/generate.ts --python PYTHON [--size 512] [--steps 4] [--rounds 3] [--models FOLDER] [--in-turn]
 *
 * PYTHON has torch, diffusers and transformers (tools/interop/requirements.txt); without it only our side is measured. The
 * models take 4.4 GB in the folder, and each process about as much memory. Printed are medians over the rounds, after a first
 * image that warms up (of an image also the time of the processors, which other work on the machine changes less), the peak
 * resident memory of each process, and how far the last images are apart.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import process from 'node:process';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import { makeFolder } from '../src/base/make-folder.js';
import { writeImageFeatures } from '../src/generation/embedding-files.js';
import { Generator, randn, tidy } from '../src/torch/index.js';
import { imageDifference } from '../tools/interop/compare.js';
import type { GeneratedOnce, GenerationRequest } from './full-size/generation.js';
import { writeAdapterFor, writeStableDiffusion } from './full-size/models.js';
import { median, printRow } from './side-by-side.js';

const { values } = parseArgs({
  options: {
    python: { type: 'string' },
    size: { type: 'string', default: '512' },
    steps: { type: 'string', default: '4' },
    rounds: { type: 'string', default: '3' },
    models: { type: 'string', default: 'build/full-size' },
    'in-turn': { type: 'boolean', default: false },
  },
});
const root = values.models;
const request: GenerationRequest = {
  size: Number(values.size),
  steps: Number(values.steps),
  inTurn: values['in-turn'],
};

writeModels();
const here = (path: string): string => join(import.meta.dirname, path);
const threads = String(availableParallelism());
const sides = [
  await start('ours', process.execPath, ['--import', 'tsx', here('full-size/generation.ts'), root, threads]),
  ...(values.python === undefined
    ? []
    : [await start('diffusers', values.python, [here('reference/generate.py'), root, threads])]),
];
for (let round = 0; round <= Number(values.rounds); round++)
  for (const side of sides) {
    const result = await side.ask(request);
    if (round > 0) side.results.push(result);
  }
for (const { child } of sides) child.stdin?.end();

console.log(
  `${threads} × ${cpus()[0]?.model.trim()}; ${request.size} px, ${request.steps} steps, median of ${values.rounds}`,
);
printRow(['', 'version', 'UNet call', 'image', 'of processors', 'peak memory']);
const summary = sides.map(({ name, version, results }) => {
  const call = median(results.flatMap(({ calls }) => calls));
  const image = median(results.map(({ image }) => image));
  const processor = median(results.map(({ processor }) => processor));
  const peak = Math.max(...results.map(({ peak }) => peak));
  printRow([
    name,
    version,
    `${call.toFixed(2)} s`,
    `${image.toFixed(2)} s`,
    `${processor.toFixed(2)} s`,
    `${(peak / 2 ** 30).toFixed(2)} GiB`,
  ]);
  return { call, image, processor, peak };
});
const [ours, theirs] = summary;
if (ours !== undefined && theirs !== undefined) {
  const ratio = (key: keyof typeof ours): string => (ours[key] / theirs[key]).toFixed(2);
  printRow(['ours / diffusers', '', ratio('call'), ratio('image'), ratio('processor'), ratio('peak')]);
  const { mean, max } = await imageDifference(join(root, 'ours.png'), join(root, 'diffusers.png'));
  console.log(`The images differ by ${mean.toFixed(3)} of 255 in the mean, at most ${max}`);
}

interface Side {
  name: string;
  version: string;
  child: ChildProcess;
  results: GeneratedOnce[];
  ask(request: GenerationRequest): Promise<GeneratedOnce>;
}

/** Starts a side, which prints its version when it has loaded, and then a line for each line that it reads. */
async function start(name: string, command: string, args: readonly string[]): Promise<Side> {
  const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  child.on('exit', (code) => {
    if (code !== 0) throw new Error(`${name} ended with ${code}`);
  });
  const lines = createInterface(child.stdout);
  const next = async (): Promise<string> => ((await once(lines, 'line')) as [string])[0];
  const version = await next();
  const ask = async (asked: GenerationRequest): Promise<GeneratedOnce> => {
    const answer = next();
    child.stdin.write(`${JSON.stringify(asked)}\n`);
    return JSON.parse(await answer) as GeneratedOnce;
  };
  return { name, version, child, results: [], ask };
}

function writeModels(): void {
  makeFolder(root);
  writeStableDiffusion(root);
  // Of ViT-H, which is not run: both sides read features.
  writeAdapterFor(root, { folder: 'ViT-H', type: 'clip', widths: { tokens: 1280, pooled: 1024 } });
  const tokenizer = join(root, 'model/tokenizer');
  makeFolder(tokenizer);
  for (const name of ['vocab.json', 'merges.txt'])
    copyFileSync(join('demo/models/tokenizer', name), join(tokenizer, name));
  const words = { bos_token: '<|startoftext|>', eos_token: '<|endoftext|>', pad_token: '<|endoftext|>' };
  const settings = {
    tokenizer_class: 'CLIPTokenizer',
    model_max_length: 77,
    unk_token: '<|endoftext|>',
    ...words,
  };
  writeFileSync(join(tokenizer, 'tokenizer_config.json'), JSON.stringify(settings));
  const parts = {
    unet: ['diffusers', 'UNet2DConditionModel'],
    vae: ['diffusers', 'AutoencoderKL'],
    text_encoder: ['transformers', 'CLIPTextModel'],
    tokenizer: ['transformers', 'CLIPTokenizer'],
    scheduler: ['diffusers', 'PNDMScheduler'],
    safety_checker: [null, null],
    feature_extractor: [null, null],
  };
  const index = { _class_name: 'StableDiffusionPipeline', requires_safety_checker: false, ...parts };
  writeFileSync(join(root, 'model/model_index.json'), JSON.stringify(index));
  const generator = new Generator('cpu', 1);
  tidy(() =>
    writeImageFeatures(join(root, 'features.safetensors'), {
      hiddenStates: randn([1, 257, 1280], { generator }),
      zeroHiddenStates: randn([1, 257, 1280], { generator }),
      embeddings: randn([1, 1024], { generator }),
    }),
  );
}
