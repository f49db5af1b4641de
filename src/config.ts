/**
 * @file The options of training: names, ranges, defaults. The names are those of the original's script
 * (tencent-ailab/IP-Adapter tutorial_train_plus.py), in camelCase. Unknown keys are errors.
 */
import { z } from 'zod';
import { count, path, targetOptions } from './options.js';

/**
 * What the UNet and the adapter take of a row, each from a frozen encoder of its own. Pictures come first: a row whose
 * picture cannot be read has no need of its caption.
 */
export const parts = ['latents', 'image', 'text'] as const;
export type Part = (typeof parts)[number];

export const trainOptionsSchema = z.strictObject({
  pretrainedModelNameOrPath: path.describe(
    'Stable Diffusion: a folder in the diffusers layout, a .safetensors or .ckpt file of 1.x, or a name on the Hub, maybe with a file in it',
  ),
  pretrainedIpAdapterPath: path
    .optional()
    .describe(
      'adapter to start from: .safetensors, .bin, checkpoint folder or name on the Hub; default: a new one',
    ),
  numTokens: count.default(16).describe('image tokens that the Resampler makes'),
  imageEncoderPath: path.describe(
    'CLIP image encoder: a folder in the transformers layout, or a name on the Hub with the folder in it',
  ),
  dataJsonFile: path.describe('dataset: [{"image_file": "1.png", "text": "A dog"}, …]'),
  dataRootPath: z.string().describe('folder that image_file is relative to'),
  outputDir: path.default('sd-ip_adapter').describe('folder for the checkpoints'),
  resolution: count
    .refine((value) => value % 8 === 0, 'must be a multiple of 8: the VAE makes 1 latent of 8 × 8 pixels')
    .default(512)
    .describe('width and height of the training pictures, pixels'),
  learningRate: z.number().positive('must be above 0').default(1e-4).describe('AdamW learning rate'),
  weightDecay: z.number().min(0, 'must be at least 0').default(1e-2).describe('AdamW weight decay'),
  numTrainEpochs: count.default(100).describe('times that each row is seen'),
  maxTrainSteps: count.optional().describe('stop after so many optimizer steps, whatever the epochs'),
  trainBatchSize: count.default(8).describe('rows per step'),
  saveSteps: count.default(2000).describe('steps between checkpoints; one is always written at the end'),
  mixedPrecision: z
    .enum(['no', 'fp16', 'bf16'])
    .default('no')
    .describe('dtype of the frozen models; what is trained stays in fp32'),
  dataloaderNumWorkers: z
    .int()
    .min(0)
    .default(0)
    .describe('batches that are prepared ahead; 0: a good number'),
  seed: z.int().min(0).default(0).describe('of initial weights, noise, shuffle and drop'),
  resume: z
    .union([z.literal(true), path])
    .optional()
    .describe('go on from this checkpoint; without a value, from the newest in the output folder'),
  cache: z
    // A list is what it resolves to: resolved options are options again, and a run can be repeated from them.
    .union([z.string().transform((list) => list.split(',')), z.array(z.string())])
    .pipe(z.array(z.enum(parts)))
    .optional()
    .describe('encode each row once and keep it on disk: latents, text, image, or several with commas'),
  cacheDir: path
    .optional()
    .describe('folder for --cache, which runs may share; default: cache in the output folder'),
  device: targetOptions.device,
  threads: targetOptions.threads,
});

/** What a caller gives: what has a default may be left out. */
export type TrainOptions = z.input<typeof trainOptionsSchema>;

/** With every default filled in. */
export type ResolvedTrainOptions = z.output<typeof trainOptionsSchema>;
