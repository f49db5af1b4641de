/** @file The options of training: names, ranges, defaults. Unknown keys are errors. */
import { z } from 'zod';
import { requestNames } from '../base/steering.js';
import { lrSchedulers } from '../optim/lr-scheduler.js';
import { metricOptions } from './metric-options.js';
import {
  clipSkip,
  count,
  datasetOptions,
  flag,
  number,
  path,
  seed,
  side,
  targetOptions,
  whole,
} from './options.js';
import { pairOptions } from './pair-options.js';

/** Numbers without an upper limit: a value that is too large shows as a loss that is not finite. */
const positive = z.number('must be a number above 0').positive('must be above 0');
const notNegative = z.number('must be a number, at least 0').min(0, 'must be at least 0');
const decayRate = notNegative.lt(1, 'must be below 1');

/**
 * The parts of a row that frozen encoders encode: latents for the UNet, image features for the adapter, text states. Images
 * come first, since the caption of a row is not needed if its image cannot be read.
 */
export const parts = ['latents', 'image', 'text'] as const;
export type Part = (typeof parts)[number];

/** The kinds of adapter that can be trained. */
export const trainableKinds = ['plus', 'base', 'full-face'] as const;

export type TrainableKind = (typeof trainableKinds)[number];

/** What a checkpoint can be the best by. */
export const bestMeasures = ['gain', 'retrieval', 'dino', 'clip-i', 'clip-t'] as const;
export type BestMeasure = (typeof bestMeasures)[number];

export const trainOptionsSchema = z.strictObject({
  model: path.describe(
    'Stable Diffusion to train for: folder in the diffusers layout, .safetensors or .ckpt file of 1.x or XL, or name on the Hub',
  ),
  imageEncoder: path.describe(
    'image encoder, CLIP for all official adapters; also SigLIP, DINOv2, DINO: folder in the transformers layout, or name on the Hub with the folder in it',
  ),
  adapter: path
    .optional()
    .describe(
      'adapter to start from: .safetensors or .bin file, checkpoint folder, or name on the Hub; default: a new one',
    ),
  kind: z
    .enum(trainableKinds)
    .optional()
    .describe('kind of a new adapter; default: plus, or the kind of --adapter'),
  numTokens: whole(1, 4096)
    .optional()
    .describe('image tokens; default: 16 for plus, 4 for base, or those of --adapter'),
  ...datasetOptions,
  ...pairOptions,
  openShards: whole(0)
    .optional()
    .describe(
      'shards of a WebDataset that are read at a time, a batch taking rows from each in turn; 0: shuffle all rows; default: 64, or as the checkpoint',
    ),
  outputDir: path.prefault('sd-ip_adapter').describe('folder for checkpoints, metrics and validation images'),
  resolution: side
    .refine((value) => value % 8 === 0, 'must be a multiple of 8: the VAE makes 1 latent of 8 × 8 pixels')
    .default(512)
    .describe('width and height of the training images, pixels'),
  buckets: flag
    .default(false)
    .describe(
      'train on images in their own aspect ratio, at most resolution × resolution pixels in area, instead of square crops',
    ),
  randomFlip: flag
    .default(false)
    .describe('mirror half of the images in each epoch, together with their reference images'),
  reducedDecode: flag
    .default(false)
    .describe(
      'decode JPEGs that are at least 4 times as wide and high as needed at 1/2, 1/4 or 1/8 of their size: faster; bytes differ by 0.2 to 0.7 in the mean',
    ),

  learningRate: positive.default(1e-4).describe('learning rate of AdamW'),
  imageProjLearningRate: positive
    .optional()
    .describe('learning rate of the image projection; default: --learning-rate'),
  ipAdapterLearningRate: positive
    .optional()
    .describe('learning rate of to_k_ip and to_v_ip; default: --learning-rate'),
  scaleLr: flag
    .default(false)
    .describe('multiply the learning rates by --batch-size × --gradient-accumulation-steps'),
  lrScheduler: z
    .enum(lrSchedulers)
    .default('constant')
    .describe('course of the learning rate over the run, as in diffusers'),
  lrWarmupSteps: whole(0)
    .default(500)
    .describe('steps in which the learning rate rises from 0; constant has no warm-up'),
  lrNumCycles: count.default(1).describe('cycles of cosine_with_restarts'),
  lrPower: positive.default(1).describe('exponent of polynomial'),
  adamBeta1: decayRate.default(0.9).describe("decay of AdamW's mean gradient"),
  adamBeta2: decayRate.default(0.999).describe("decay of AdamW's mean squared gradient"),
  adamEpsilon: positive.default(1e-8).describe("constant in AdamW's denominator"),
  weightDecay: notNegative.default(1e-2).describe('weight decay of AdamW'),
  gradientAccumulationSteps: count
    .default(1)
    .describe('batches whose gradients are added up for one optimizer step'),
  gradientCheckpointing: flag
    .default(false)
    .describe("recompute the UNet's layers in backward instead of keeping them: less memory, more time"),
  maxGradNorm: positive.optional().describe('clip gradients to this global norm; default: no clipping'),
  useEma: flag
    .default(false)
    .describe('keep a moving average of the adapter, ip_adapter_ema.safetensors in each checkpoint'),
  emaDecay: decayRate.default(0.9999).describe('largest decay of the moving average'),
  snrGamma: positive
    .optional()
    .describe('weight losses by Min-SNR with this γ, for example 5; default: equal weights'),
  noiseOffset: notNegative
    .default(0)
    .describe('strength of noise that is equal over a whole channel, for example 0.05; 0: none'),
  timestepSampling: z
    .enum(['uniform', 'logit_normal'])
    .default('uniform')
    .describe('distribution of the trained timesteps'),
  logitMean: z
    .number('must be a number')
    .default(0)
    .describe('mean of logit_normal; above 0, noisy timesteps are more frequent'),
  logitStd: positive.default(1).describe('standard deviation of logit_normal'),

  epochs: count.default(100).describe('passes over the dataset'),
  maxSteps: count
    .optional()
    .describe('optimizer steps of the run, in as many epochs as needed; default: as --epochs says'),
  batchSize: count.default(8).describe('rows in a batch, per process'),
  saveSteps: count.default(2000).describe('steps between checkpoints; one is always written at the end'),
  checkpointsTotalLimit: count.optional().describe('checkpoints to keep, the newest ones; default: all'),
  checkpointContent: z
    .enum(['all', 'adapter'])
    .default('all')
    .describe(
      "what older checkpoints keep: all, or adapter: not the optimizer's state, two thirds of each; the newest keeps all, to resume from",
    ),
  maxNanSteps: whole(0)
    .default(0)
    .describe('batches to skip because of a NaN or infinite loss or gradient before the run stops'),
  mixedPrecision: z
    .enum(['no', 'fp16', 'bf16'])
    .default('no')
    .describe('precision of the frozen models; trained weights stay in fp32'),
  reduceDtype: z
    .enum(['fp32', 'bf16'])
    .optional()
    .describe(
      'precision in which several processes add their gradients up; bf16 sends half the bytes, and the result then depends on the number of processes; default: fp32',
    ),
  cudaGraphs: flag
    .default(false)
    .describe('record the kernels of a step as CUDA graphs, one for each shape; --dry-run does not'),
  clipSkip,
  dataloaderNumWorkers: whole(0, 1024)
    .default(0)
    .describe('batches to prepare ahead; 0: chosen automatically'),
  seed: seed.default(0).describe('seed of initial weights, noise, shuffling and dropped conditions'),
  resume: z
    .union([z.literal(true), path], { error: 'must be a checkpoint folder, or true for the newest one' })
    .optional()
    .describe(
      'resume from this checkpoint; without a value or latest: from the newest one in --output-dir; auto: likewise, or from the start where there is none',
    ),
  cache: z
    // It also accepts a list, which it resolves to, so that resolved options can be used as options again.
    .union([z.string(), z.array(z.string())], 'must be a list')
    .transform((list) => [list].flat().flatMap((some) => some.split(',')))
    // Overrides a preset, or an option file.
    .transform((list) => (list.length === 1 && list[0] === 'none' ? [] : list))
    .pipe(z.array(z.enum(parts)))
    .optional()
    .describe(
      'encode each row once and keep the result on disk: latents, text, image, or several; none: do not; default: none',
    ),
  cacheDir: path
    .optional()
    .describe('folder for --cache, which runs may share; default: cache in --output-dir'),

  reportTo: z
    .string()
    .pipe(
      z.enum(['tensorboard', 'none'], {
        error: ({ input }) =>
          input === 'wandb'
            ? 'must be tensorboard or none: Weights & Biases is not supported, since its client for JavaScript, @wandb/sdk, is an unfinished beta without resume or images; metrics.jsonl has the same numbers'
            : undefined,
      }),
    )
    .default('tensorboard')
    .describe('where metrics go besides metrics.jsonl: tensorboard, for event files, or none'),
  loggingDir: path.prefault('logs').describe('folder for the event files, relative to --output-dir'),
  validationSplit: whole(2, 1000)
    .optional()
    .describe(
      'rows to hold out from training, chosen by --seed and their names: their loss with the right reference image, another, none, and without adapter shows whether the adapter uses its image; measured after 50, 100, 200 and every --validation-steps steps; 32 or more',
    ),
  validationDataset: z
    .union([path.transform((one) => [one]), z.array(path).min(1, 'must name one dataset at least')], {
      error: 'must be a path, or a list of paths',
    })
    .optional()
    .describe(
      'rows to measure on, in place of --validation-split: a dataset of any form; of more than 64 rows, 64',
    ),
  validationScores: whole(2, 1000)
    .optional()
    .describe(
      'held-out rows to generate an image for every --validation-steps, and to score: CLIP-I, DINO, CLIP-T, retrieval, beside no adapter and another reference',
    ),
  ...metricOptions,
  keepBest: z
    .enum(bestMeasures)
    .optional()
    .describe(
      'also keep the checkpoint that is the best by this measure of --validation-split or --validation-scores; the link best in --output-dir leads to it',
    ),
  validationImages: z
    .array(path)
    .default([])
    .describe('reference images to generate from during training; one row of the sheet each'),
  validationPrompts: z
    .array(z.string())
    .default([])
    .describe('one prompt for each validation image, or one for all; default: no text'),
  validationSteps: count
    .default(500)
    .describe('steps between validations, by images or held-out rows; one is always made at the end'),
  numValidationImages: whole(1, 1000).default(1).describe('generated images for each validation image'),
  validationScales: z
    .union([number(0, 1e4).transform((one) => [one]), z.array(number(0, 1e4)).min(1, 'must not be empty')], {
      error: 'must be a number, or a list of numbers',
    })
    .default([1])
    .describe('strengths of the image prompt in validation images: 0 none, 1 as trained; default: 1'),
  validationGuidanceScale: number(0, 1e4)
    .default(7.5)
    .describe('classifier-free guidance in validation; 1: none'),
  validationSamplingSteps: whole(1, 10_000).default(30).describe('denoising steps of a validation image'),

  requests: z
    .array(
      z
        .strictObject({
          step: count.describe('the step after which'),
          request: z.enum(requestNames).describe('what the run is asked for'),
          steps: count.optional().describe('with extend: how many steps more'),
        })
        .refine(
          ({ request, steps }) => (request === 'extend') === (steps !== undefined),
          'must have steps with extend, and only with it',
        ),
    )
    .optional()
    .describe(
      'what a run was asked for while it trained (ip-adapter steer), as its config.yaml records it: a run that is repeated does the same, but does not stop',
    ),

  device: targetOptions.device,
  threads: targetOptions.threads,
});

/** The options with every default filled in. */
export type ResolvedTrainOptions = z.output<typeof trainOptionsSchema>;

type HasEffect = (options: ResolvedTrainOptions) => boolean;
const validates: HasEffect = ({ validationImages }) => validationImages.length > 0;
const scores: HasEffect = ({ validationScores }) => validationScores !== undefined;
const draws: HasEffect = (options) => validates(options) || scores(options);
const holdsOut: HasEffect = ({ validationSplit, validationDataset }) =>
  validationSplit !== undefined || validationDataset !== undefined;
const warmsUp: HasEffect = ({ lrScheduler }) => lrScheduler !== 'constant';
const isLogitNormal: HasEffect = ({ timestepSampling }) => timestepSampling === 'logit_normal';

/** Whether an option that depends on others has an effect. */
const conditional: Readonly<Partial<Record<keyof ResolvedTrainOptions, HasEffect>>> = {
  referencesPerRow: ({ groupBy }) => groupBy !== undefined,
  lrWarmupSteps: warmsUp,
  lrNumCycles: ({ lrScheduler }) => lrScheduler === 'cosine_with_restarts',
  lrPower: ({ lrScheduler }) => lrScheduler === 'polynomial',
  emaDecay: ({ useEma }) => useEma,
  logitMean: isLogitNormal,
  logitStd: isLogitNormal,
  epochs: ({ maxSteps }) => maxSteps === undefined,
  cacheDir: ({ cache = [] }) => cache.length > 0,
  loggingDir: ({ reportTo }) => reportTo !== 'none',
  validationImages: validates,
  validationPrompts: validates,
  validationSteps: (options) => validates(options) || holdsOut(options),
  numValidationImages: validates,
  validationScales: validates,
  validationGuidanceScale: draws,
  validationSamplingSteps: draws,
  metricEncoder: scores,
  metricTextEncoder: scores,
  dinoEncoder: scores,
};

/** Returns the options that have an effect in combination with the others. */
export function effectiveOptions(options: ResolvedTrainOptions): Partial<ResolvedTrainOptions> {
  const effective = Object.entries(options).filter(
    ([key]) => conditional[key as keyof ResolvedTrainOptions]?.(options) ?? true,
  );
  return Object.fromEntries(effective);
}
