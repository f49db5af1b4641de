/**
 * @file The options of training: names, ranges, defaults. The names are those of the original's script
 * (tencent-ailab/IP-Adapter tutorial_train_plus.py), in camelCase. Unknown keys are errors.
 */
import { z } from 'zod';
import { lrSchedulers } from '../optim/lr-scheduler.js';
import { count, datasetOptions, path, targetOptions } from './options.js';

const positive = z.number().positive('must be above 0');
const notNegative = z.number().min(0, 'must be at least 0');
const decayRate = notNegative.lt(1, 'must be below 1');

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
  ...datasetOptions,
  outputDir: path.default('sd-ip_adapter').describe('folder for the checkpoints'),
  resolution: count
    .refine((value) => value % 8 === 0, 'must be a multiple of 8: the VAE makes 1 latent of 8 × 8 pixels')
    .default(512)
    .describe('width and height of the training pictures, pixels'),
  buckets: z
    .boolean()
    .default(false)
    .describe(
      'train pictures in shapes near their own, of up to the area of resolution × resolution, not cut to squares',
    ),
  randomFlip: z
    .boolean()
    .default(false)
    .describe('mirror half of the pictures in each epoch, with their prompts'),

  learningRate: positive.default(1e-4).describe('AdamW learning rate'),
  imageProjLearningRate: positive.optional().describe('that of the Resampler; default: --learning-rate'),
  ipAdapterLearningRate: positive
    .optional()
    .describe('that of to_k_ip and to_v_ip; default: --learning-rate'),
  scaleLr: z
    .boolean()
    .default(false)
    .describe('multiply the learning rates by --train-batch-size × --gradient-accumulation-steps'),
  lrScheduler: z
    .enum(lrSchedulers)
    .default('constant')
    .describe('how the learning rate changes over the run, as in diffusers'),
  lrWarmupSteps: notNegative
    .int()
    .default(500)
    .describe('steps in which the learning rate rises from 0; constant has none'),
  lrNumCycles: count.default(1).describe('falls to 0 of cosine_with_restarts'),
  lrPower: positive.default(1).describe('exponent of polynomial'),
  adamBeta1: decayRate.default(0.9).describe("decay of AdamW's mean gradient"),
  adamBeta2: decayRate.default(0.999).describe("decay of AdamW's mean squared gradient"),
  adamEpsilon: positive.default(1e-8).describe("added to AdamW's denominator"),
  weightDecay: notNegative.default(1e-2).describe('AdamW weight decay'),
  gradientAccumulationSteps: count
    .default(1)
    .describe('batches whose gradients make one step, as one batch so many times as large'),
  gradientCheckpointing: z
    .boolean()
    .default(false)
    .describe("compute the UNet's layers a second time in backward, not keep them: less memory, more time"),
  maxGradNorm: positive.optional().describe('clip gradients to this global norm; default: no clipping'),
  useEma: z
    .boolean()
    .default(false)
    .describe('keep a moving average of the adapter: ip_adapter_ema.safetensors in each checkpoint'),
  emaDecay: decayRate.default(0.9999).describe('what the decay of the moving average grows to'),
  snrGamma: positive.optional().describe('weigh losses by Min-SNR with this γ, 5 say; default: all the same'),
  noiseOffset: notNegative.default(0).describe('noise that a channel has in common, 0.05 say; 0: none'),
  timestepSampling: z
    .enum(['uniform', 'logit_normal'])
    .default('uniform')
    .describe('which timesteps are trained'),
  logitMean: z.number().default(0).describe('of logit_normal; above 0, noisy timesteps are more frequent'),
  logitStd: positive.default(1).describe('of logit_normal'),

  numTrainEpochs: count.default(100).describe('times that each row is seen'),
  maxTrainSteps: count
    .optional()
    .describe('optimizer steps of the run, in as many epochs as they take; default: --num-train-epochs'),
  trainBatchSize: count.default(8).describe('rows that are computed at once'),
  saveSteps: count.default(2000).describe('steps between checkpoints; one is always written at the end'),
  checkpointsTotalLimit: count
    .optional()
    .describe('checkpoints to keep; older ones are deleted when a newer one is whole; default: all'),
  maxNanSteps: z
    .int()
    .min(0, 'must be at least 0')
    .default(0)
    .describe(
      'batches that may be skipped because their loss or a gradient is NaN or infinite; one more stops the run',
    ),
  mixedPrecision: z
    .enum(['no', 'fp16', 'bf16'])
    .default('no')
    .describe('dtype of the frozen models; what is trained stays in fp32'),
  cudaGraphs: z
    .boolean()
    .default(false)
    .describe(
      'record the kernels of a step as CUDA graphs, by shapes, and launch them together; --dry-run does not',
    ),
  dataloaderNumWorkers: z
    .int()
    .min(0)
    .default(0)
    .describe('batches that are prepared ahead; 0: a good number'),
  seed: z.int().min(0).default(0).describe('of initial weights, noise, shuffle and drop'),
  resume: z
    .union([z.literal(true), path])
    .optional()
    .describe(
      'resume from this checkpoint; without a value or latest: from the newest in the output folder; auto: likewise, or afresh where there is none',
    ),
  cache: z
    // A list is what it resolves to: resolved options are options again, and a run can be repeated from them.
    .union([z.string().transform((list) => list.split(',')), z.array(z.string())])
    .pipe(z.array(z.enum(parts)))
    .optional()
    .describe('encode each row once and keep it on disk: latents, text, image, or several with commas'),
  cacheDir: path
    .optional()
    .describe('folder for --cache, which runs may share; default: cache in the output folder'),

  reportTo: z
    .string()
    .pipe(
      z.enum(['tensorboard', 'none'], {
        error: ({ input }) =>
          input === 'wandb'
            ? 'Weights & Biases is not supported: its client for JavaScript, @wandb/sdk, is an unfinished beta without resume or pictures; use tensorboard, or read metrics.jsonl'
            : undefined,
      }),
    )
    .default('tensorboard')
    .describe('tensorboard: event files beside metrics.jsonl, which is always written; or none'),
  loggingDir: path.default('logs').describe('folder for the event files, inside the output folder'),
  validationImage: z
    .array(path)
    .default([])
    .describe('pictures as prompts for what is drawn while training goes; a row of the sheet each'),
  validationPrompt: z
    .array(z.string())
    .default([])
    .describe('text beside each validation picture, or one for all; default: none'),
  validationSteps: count
    .default(500)
    .describe('steps between validation drawings; one is always made at the end'),
  numValidationImages: count.default(1).describe('drawings of each validation picture'),
  validationScale: notNegative
    .default(1)
    .describe('strength of the image prompt in validation drawings: 0 none, 1 as trained'),
  validationGuidanceScale: notNegative
    .default(7.5)
    .describe('how far validation drawings go beyond the unguided prediction; 1: no guidance'),
  validationSamplingSteps: count.default(30).describe('denoising steps of a validation drawing'),

  device: targetOptions.device,
  threads: targetOptions.threads,
});

/** What a caller gives: what has a default may be left out. */
export type TrainOptions = z.input<typeof trainOptionsSchema>;

/** With every default filled in. */
export type ResolvedTrainOptions = z.output<typeof trainOptionsSchema>;
