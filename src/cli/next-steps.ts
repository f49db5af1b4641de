/** @file What to do with a trained adapter, as commands with the paths of the run. */
import { dirname, join } from 'node:path';
import { adapterFile } from '../adapters/adapter-path.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';

type Trained = Pick<
  ResolvedTrainOptions,
  'model' | 'imageEncoder' | 'dataset' | 'datasetRoot' | 'validationImages'
>;

/** @param checkpoint folder of the last one */
export function nextSteps(
  { model, imageEncoder, dataset, datasetRoot, validationImages: [reference] }: Trained,
  checkpoint: string,
): string {
  const models = ['--model', model, '--image-encoder', imageEncoder, '--adapter', checkpoint];
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
      `pipe = DiffusionPipeline.from_pretrained(${JSON.stringify(model)}, image_encoder=CLIPVisionModelWithProjection.from_pretrained(${JSON.stringify(imageEncoder)}))`,
    ],
    [
      '',
      `pipe.load_ip_adapter(${JSON.stringify(dirname(file))}, subfolder="", weight_name="${adapterFile}", image_encoder_folder=None)`,
    ],
  ];
  return ['Next:', ...steps.map(([name, what]) => `  ${name.padEnd(10)} ${what}`)].join('\n');
}

/** As a shell takes it. */
function quoted(word: string): string {
  return /^[\w@%+=:,./~-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
