/**
 * @file What is run on both sides. The flags are those of 6736623, which every later version accepts; a case's results
 * are what its commands write into the folder of its name.
 */

export interface Case {
  name: string;
  /** Words after `ip-adapter`; relative paths count from the side's folder, whose neighbour is `../data`. */
  commands: readonly (readonly string[])[];
  /** A case whose results its commands read, of the old side. */
  needs?: string;
  /**
   * Resumes the old side's results of the needed case, its last checkpoint taken away, on the new side alone; what comes
   * of it is compared with those results as they were.
   */
  resumes?: true;
}

const engine = ['--device', 'cpu', '--threads', '2'];

export interface Models {
  name: string;
  model: string;
  imageEncoder: string;
  /** Flags of a dataset: squares, or several shapes. */
  squares: readonly string[];
  shapes: readonly string[];
}

export const demo: Models = {
  name: 'demo',
  model: '../data/demo',
  imageEncoder: '../data/demo/image_encoder',
  squares: ['--data_json_file', '../data/scenes/dataset.json'],
  shapes: ['--data_json_file', '../data/shapes/dataset.json'],
};
const golden: Models = {
  name: 'golden',
  model: '../data/golden/model',
  imageEncoder: '../data/golden/image_encoder',
  squares: ['--data_json_file', '../data/golden/data.json', '--data_root_path', '../data/golden/images'],
  shapes: ['--data_json_file', '../data/golden/data.json', '--data_root_path', '../data/golden/shapes'],
};

/** A short training at 64 px; later flags win. */
export function training(
  { name: models, model, imageEncoder, squares, shapes }: Models,
  name: string,
  flags: readonly string[] = [],
  { steps = 10, batchSize = 6, other = false, useShapes = false } = {},
): Case {
  const folder = name === '' ? models : `${models}-${name}`;
  const base = `../data/${models}`;
  return {
    name: folder,
    commands: [
      [
        'train',
        ...['--pretrained_model_name_or_path', other ? model.replace(base, `${base}-other`) : model],
        ...['--image_encoder_path', imageEncoder, ...(useShapes ? shapes : squares)],
        ...['--output_dir', folder, '--resolution', '64', '--train_batch_size', String(batchSize)],
        ...['--max-train-steps', String(steps), '--save-steps', String(steps / 2), '--learning-rate', '1e-3'],
        ...['--report-to', 'none', ...flags, ...engine],
      ],
    ],
  };
}

const averaged = [
  ...['--use-ema', '--snr-gamma', '5', '--noise-offset', '0.05', '--max-grad-norm', '0.5'],
  ...['--lr-scheduler', 'cosine', '--lr-warmup-steps', '3', '--ip-adapter-learning-rate', '5e-4'],
];

function trainings(models: Models, steps: number, batchSize: number): Case[] {
  const { name } = models;
  const short = (variant: string, flags: readonly string[], more = {}): Case =>
    training(models, variant, flags, more);
  const whole = training(models, '', [], { steps, batchSize });
  const ema = short('ema-snr-offset', averaged);
  return [
    whole,
    resume(whole),
    // Outside the results: how a cache is laid out may change.
    short('cache', ['--cache', 'latents,text,image', '--cache-dir', `cache/${name}`]),
    short('accumulation', ['--gradient-accumulation-steps', '2', '--scale-lr']),
    short('checkpointing', ['--gradient-checkpointing']),
    short('bf16', ['--mixed-precision', 'bf16']),
    short('other-prediction', [], { other: true }),
    short('buckets-flip', ['--buckets', '--random-flip', '--timestep-sampling', 'logit_normal'], {
      useShapes: true,
    }),
    ema,
    resume(ema),
    {
      ...short('fine-tuning', ['--pretrained-ip-adapter-path', `../old/${name}/checkpoint-${steps}`]),
      needs: name,
    },
  ];
}

/** The same command, in another folder, from the newest checkpoint in it. */
function resume({ name, commands: [words = []] }: Case): Case {
  const resumed = `${name}-resume`;
  const command = [...words.map((word) => (word === name ? resumed : word)), '--resume'];
  return { name: resumed, commands: [command], needs: name, resumes: true };
}

/** A generation with an adapter that the old side trained. */
function generation(
  name: string,
  flags: readonly string[],
  { models = demo, steps = 60, encoder = true, adapter = true, before = [] as string[][] } = {},
): Case {
  const encoding = encoder && adapter ? ['--image-encoder', models.imageEncoder] : [];
  const command = [
    ...['generate', '--model', models.model, ...encoding],
    ...(adapter ? ['--adapter', `../old/${models.name}/checkpoint-${steps}`] : []),
    ...['--out', `${name}/out.png`, '--steps', '8', ...flags, ...engine],
  ];
  return { name, commands: [...before, command], needs: models.name };
}

const scene = (i: number): string => `../data/scenes/000${i}.png`;
const shaped = (i: number): string => `../data/shapes/000${i}.png`;
const embeds = 'generate-embeds/embeds.safetensors';

const generations: Case[] = [
  generation('generate-ddim', [
    ...['--scheduler', 'ddim', '--image', scene(0), '--prompt', 'a red circle', '--guidance-scale', '3'],
  ]),
  generation('generate-pndm-unguided', [
    ...['--scheduler', 'pndm', '--image', scene(1), scene(2), '--image-weight', '0.7', '0.3'],
    ...['--guidance-scale', '1', '--scale', '0.5'],
  ]),
  generation('generate-euler-batches', [
    ...['--scheduler', 'euler', '--image', scene(3), '--prompt', 'a square', '--negative-prompt', 'blue'],
    ...['--num-images', '3', '--batch-size', '2', '--seed', '7'],
  ]),
  generation('generate-dpmpp-range', [
    ...['--scheduler', 'dpmpp-2m', '--image', scene(4), '--start', '0.25', '--end', '0.75'],
  ]),
  generation('generate-karras-scale-0', [
    ...['--scheduler', 'dpmpp-2m-karras', '--image', scene(5), '--prompt', 'a star', '--scale', '0'],
  ]),
  generation('generate-embeds', ['--scheduler', 'ddpm', '--image', embeds, '--guidance-scale', '5'], {
    encoder: false,
    before: [['embed', scene(6), scene(7), '--image-encoder', demo.imageEncoder, '--out', embeds, ...engine]],
  }),
  generation('generate-text', ['--prompt', 'a green triangle', '--negative-prompt', 'red'], {
    adapter: false,
  }),
  generation('generate-bf16-shape', [
    ...['--dtype', 'bfloat16', '--image', shaped(1), '--image-fit', 'resize'],
    ...['--width', '96', '--height', '64'],
  ]),
  generation(
    'generate-golden',
    [
      ...['--image', '../data/golden/images/0.png', '../data/golden/shapes/1.png', '--prompt', 'a picture b'],
      ...['--scale', '0.5', '--num-images', '2', '--width', '64', '--height', '64'],
    ],
    { models: golden, steps: 20 },
  ),
];

const evaluation: Case = {
  name: 'evaluate',
  needs: 'demo',
  commands: [
    [
      ...['evaluate', '--model', demo.model, '--image-encoder', demo.imageEncoder],
      ...['--adapter', '../old/demo/checkpoint-60', '--data-json-file', '../data/held-out/dataset.json'],
      ...[
        '--metric-text-encoder',
        '../data/demo/text_encoder',
        '--text',
        'caption',
        '--scale',
        '0',
        '0.5',
        '1',
      ],
      ...['--steps', '6', '--guidance-scale', '3', '--out', 'evaluate/evaluation.json', ...engine],
    ],
  ],
};

export const cases: readonly Case[] = [
  ...trainings(demo, 60, 16),
  ...trainings(golden, 20, 3),
  ...generations,
  evaluation,
];
