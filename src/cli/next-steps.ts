/** @file What to do with a trained adapter, as commands with the paths of the run. */
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { adapterFile } from '../adapters/adapter-path.js';
import { parseHubName } from '../hub/cache.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';

type Trained = Pick<
  ResolvedTrainOptions,
  'model' | 'imageEncoder' | 'dataset' | 'datasetRoot' | 'validationImages' | 'clipSkip'
>;

/** @param checkpoint folder of the last one */
export function nextSteps(
  { model, imageEncoder, dataset, datasetRoot, validationImages: [reference], clipSkip }: Trained,
  checkpoint: string,
): string {
  const skip = clipSkip === 0 ? [] : ['--clip-skip', String(clipSkip)];
  const models = ['--model', model, '--image-encoder', imageEncoder, '--adapter', checkpoint, ...skip];
  const images = ['--images', reference ?? 'reference.png', '--out', 'out.png'];
  const rows = [
    '--dataset',
    ...dataset,
    ...(datasetRoot === undefined ? [] : ['--dataset-root', datasetRoot]),
  ];
  const command = (...words: string[]): string => `npx ip-adapter ${words.map(quoted).join(' ')}`;
  const file = join(checkpoint, adapterFile);
  const steps: [name: string, what: string][] = [
    ['generate', command('generate', ...models, ...images)],
    // Standard input has been read.
    ...(dataset.includes('-')
      ? []
      : [['evaluate', command('evaluate', ...models, ...rows)] as [string, string]]),
    ['export', command('export', checkpoint, 'ip-adapter.bin')],
    [
      'ComfyUI',
      `copy ${quoted(file)} to ComfyUI/models/ipadapter/ and the image encoder to ComfyUI/models/clip_vision/; use "IPAdapter Model Loader"`,
    ],
    [
      'diffusers',
      `pipe = ${pipelineCall(model)}, image_encoder=CLIPVisionModelWithProjection.from_pretrained(${pretrained(imageEncoder)}))`,
    ],
    [
      '',
      `pipe.load_ip_adapter(${JSON.stringify(dirname(file))}, subfolder="", weight_name="${adapterFile}", image_encoder_folder=None)`,
    ],
  ];
  return ['Next:', ...steps.map(([name, what]) => `  ${name.padEnd(10)} ${what}`)].join('\n');
}

/** A Python call, up to its further arguments. */
function pipelineCall(model: string): string {
  const isFile = /\.(safetensors|ckpt)$/.test(model);
  // Only the class knows the family of a single file.
  const call = isFile ? 'StableDiffusion[XL]Pipeline.from_single_file' : 'DiffusionPipeline.from_pretrained';
  return `${call}(${JSON.stringify(model)}`;
}

/** The arguments by which Python finds a folder or a name on the Hub, whose folder is an argument of its own. */
function pretrained(name: string): string {
  const hub = existsSync(name) ? null : parseHubName(name);
  if (hub === null || hub.inside === '') return JSON.stringify(name);
  return `${JSON.stringify(hub.repo)}, subfolder=${JSON.stringify(hub.inside)}`;
}

/** As a shell takes it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
