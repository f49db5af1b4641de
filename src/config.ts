/**
 * @file The options of training: names, ranges, defaults. The names are those of the original's script
 * (tencent-ailab/IP-Adapter tutorial_train_plus.py), in camelCase. Unknown keys are errors.
 */
import { z } from 'zod';
import { ConfigError } from './errors.js';

const path = z.string().min(1, 'must not be empty');
const count = z.int('must be a whole number').min(1, 'must be at least 1');

export const trainOptionsSchema = z.strictObject({
  pretrainedModelNameOrPath: path.describe(
    "Stable Diffusion: a folder in the diffusers layout, a .safetensors or .ckpt file of 1.x, or a name in the Hub's cache",
  ),
  pretrainedIpAdapterPath: path
    .optional()
    .describe('adapter to start from (.safetensors or .bin); default: a new one'),
  numTokens: count.default(16).describe('image tokens that the Resampler makes'),
  imageEncoderPath: path.describe(
    "CLIP image encoder: a folder in the transformers layout, or a name in the Hub's cache with the folder in it",
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
  device: z
    .string()
    .regex(/^(cpu|cuda(:\d+)?)$/, "must be 'cpu', 'cuda' or 'cuda:N'")
    .optional()
    .describe('cpu, cuda or cuda:N; default: cuda where LibTorch finds one'),
  threads: count.optional().describe('CPU threads of LibTorch; default: all cores'),
});

/** What a caller gives: what has a default may be left out. */
export type TrainOptions = z.input<typeof trainOptionsSchema>;

/** With every default filled in. */
export type ResolvedTrainOptions = z.output<typeof trainOptionsSchema>;

/** The name of an option as a flag: `trainBatchSize` → `--train-batch-size`. */
export function flagOf(key: string): string {
  return `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** @throws ConfigError that names every option at fault, what it takes and what it got. */
export function resolveTrainOptions(options: TrainOptions): ResolvedTrainOptions {
  const parsed = trainOptionsSchema.safeParse(options);
  if (parsed.success) return parsed.data;
  const faults = parsed.error.issues.map((issue) => {
    if (issue.code === 'unrecognized_keys') return `Unknown option ${issue.keys.join(', ')}`;
    const key = String(issue.path[0]);
    const value = (options as Record<string, unknown>)[key];
    if (value === undefined) return `${flagOf(key)} (${key}) is required: ${describe(key)}`;
    return `Expected ${flagOf(key)} (${key}) to be right but received ${JSON.stringify(value)}: ${issue.message}`;
  });
  throw new ConfigError(faults.join('\n'));
}

function describe(key: string): string {
  return trainOptionsSchema.shape[key as keyof typeof trainOptionsSchema.shape]?.description ?? '';
}
