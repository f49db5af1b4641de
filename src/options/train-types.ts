/** @file Written by tools/option-types.ts from the schemas; not to be edited. */

/** The options of `train` and `dryRun`. */
export interface TrainOptions {
  /** Stable Diffusion to train for: folder in the diffusers layout, .safetensors or .ckpt file of 1.x or XL, or name on the Hub. */
  model: string;
  /** Image encoder, CLIP for all official adapters; also SigLIP, DINOv2, DINO: folder in the transformers layout, or name on the Hub with the folder in it. */
  imageEncoder: string;
  /** Adapter to start from: .safetensors or .bin file, checkpoint folder, or name on the Hub; default: a new one. */
  adapter?: string | undefined;
  /** Kind of a new adapter; default: plus, or the kind of `adapter`. */
  kind?: 'plus' | 'base' | 'full-face' | undefined;
  /** Image tokens; default: 16 for plus, 4 for base, or those of `adapter`. */
  numTokens?: number | undefined;
  /** Folder of images with .txt captions, JSON, JSONL, Parquet, or WebDataset tars such as shards-{000..011}.tar, also https:// and hf://datasets/…, or a .txt file that lists them; - is a tar on standard input (train); several are joined. */
  dataset: string | string[];
  /** Folder that image_file in a JSON dataset is relative to; default: the JSON file's folder. */
  datasetRoot?: string | undefined;
  /** GB of remote shards to keep on disk, in the cache that all runs share; default: 100. */
  shardCacheSize?: number | undefined;
  /** Train with other images of the same thing as references: what the rows of a thing share: folder (the folder of the image), prefix (its name up to the last - or _), or a column such as group; one for all datasets, or one for each; none: no groups; default: the image itself is the reference. */
  groupBy?: string | string[] | undefined;
  /** Text before every caption, with a space between; one for all datasets, or one for each. */
  captionPrefix?: string | string[] | undefined;
  /** How often an epoch has the rows of a dataset, one for all datasets or one for each; default: 1. */
  datasetRepeats?: number | number[] | undefined;
  /** Share of each dataset in an epoch, in any unit: 1 3 trains three rows of the second for one of the first; an epoch is as long as without. */
  datasetWeights?: number[] | undefined;
  /** Reference images of a row with `groupBy`, others in each epoch; their tokens are appended. @default 1 */
  referencesPerRow?: number | undefined;
  /** Share of the rows that drop their image prompt only in an epoch, 0 to 1; one for all datasets, or one for each. @default 0.05 */
  dropImage?: number | number[] | undefined;
  /** Share of the rows that drop their text only in an epoch, 0 to 1; one for all datasets, or one for each. @default 0.05 */
  dropText?: number | number[] | undefined;
  /** Share of the rows that drop both in an epoch, 0 to 1; one for all datasets, or one for each. @default 0.05 */
  dropBoth?: number | number[] | undefined;
  /** Share of the references that are mirrored, without their training image, 0 to 1 (RandomHorizontalFlip); default: none. */
  referenceFlip?: number | undefined;
  /** Take a random part of each reference, of this share of its area at least (RandomResizedCrop); default: all of it. */
  referenceCrop?: number | undefined;
  /** The most by which brightness, contrast, saturation and hue of references change at random: 0.2 0.2 0.2 0.05 (ColorJitter); default: not at all. */
  referenceColorJitter?: number | number[] | undefined;
  /** Turn references at random by at most as many degrees to either side (RandomRotation); default: not at all. */
  referenceRotation?: number | undefined;
  /** Variations that each reference has, which `cache` image keeps; default: others in every epoch, which cannot be cached. */
  imageVariants?: number | undefined;
  /** Count the loss where each row's mask is white: dog.mask.png beside dog.jpg, mask_file in JSON, KEY.mask.png in a tar, a column mask. @default false */
  maskedLoss?: boolean | undefined;
  /** Cut references to what their mask shows. @default false */
  referenceMaskCrop?: boolean | undefined;
  /** Colour in place of what the mask of a reference does not show, such as '#ffffff'; default: the image. */
  referenceBackground?: string | undefined;
  /** Shards of a WebDataset that are read at a time, a batch taking rows from each in turn; 0: shuffle all rows; default: 64, or as the checkpoint. */
  openShards?: number | undefined;
  /** Folder for checkpoints, metrics and validation images. @default "sd-ip_adapter" */
  outputDir?: string | undefined;
  /** Width and height of the training images, pixels. @default 512 */
  resolution?: number | undefined;
  /** Train on images in their own aspect ratio, at most resolution × resolution pixels in area, instead of square crops. @default false */
  buckets?: boolean | undefined;
  /** Mirror half of the images in each epoch, together with their reference images. @default false */
  randomFlip?: boolean | undefined;
  /** Decode JPEGs that are at least 4 times as wide and high as needed at 1/2, 1/4 or 1/8 of their size: faster; bytes differ by 0.2 to 0.7 in the mean. @default false */
  reducedDecode?: boolean | undefined;
  /** Learning rate of AdamW. @default 0.0001 */
  learningRate?: number | undefined;
  /** Learning rate of the image projection; default: `learningRate`. */
  imageProjLearningRate?: number | undefined;
  /** Learning rate of to_k_ip and to_v_ip; default: `learningRate`. */
  ipAdapterLearningRate?: number | undefined;
  /** Multiply the learning rates by `batchSize` × `gradientAccumulationSteps`. @default false */
  scaleLr?: boolean | undefined;
  /** Course of the learning rate over the run, as in diffusers. @default "constant" */
  lrScheduler?:
    | 'constant'
    | 'constant_with_warmup'
    | 'linear'
    | 'cosine'
    | 'cosine_with_restarts'
    | 'polynomial'
    | undefined;
  /** Steps in which the learning rate rises from 0; constant has no warm-up. @default 500 */
  lrWarmupSteps?: number | undefined;
  /** Cycles of cosine_with_restarts. @default 1 */
  lrNumCycles?: number | undefined;
  /** Exponent of polynomial. @default 1 */
  lrPower?: number | undefined;
  /** Decay of AdamW's mean gradient. @default 0.9 */
  adamBeta1?: number | undefined;
  /** Decay of AdamW's mean squared gradient. @default 0.999 */
  adamBeta2?: number | undefined;
  /** Constant in AdamW's denominator. @default 1e-8 */
  adamEpsilon?: number | undefined;
  /** Weight decay of AdamW. @default 0.01 */
  weightDecay?: number | undefined;
  /** Batches whose gradients are added up for one optimizer step. @default 1 */
  gradientAccumulationSteps?: number | undefined;
  /** Recompute the UNet's layers in backward instead of keeping them: less memory, more time. @default false */
  gradientCheckpointing?: boolean | undefined;
  /** Clip gradients to this global norm; default: no clipping. */
  maxGradNorm?: number | undefined;
  /** Keep a moving average of the adapter, ip_adapter_ema.safetensors in each checkpoint. @default false */
  useEma?: boolean | undefined;
  /** Largest decay of the moving average. @default 0.9999 */
  emaDecay?: number | undefined;
  /** Weight losses by Min-SNR with this γ, for example 5; default: equal weights. */
  snrGamma?: number | undefined;
  /** Strength of noise that is equal over a whole channel, for example 0.05; 0: none. @default 0 */
  noiseOffset?: number | undefined;
  /** Distribution of the trained timesteps. @default "uniform" */
  timestepSampling?: 'uniform' | 'logit_normal' | undefined;
  /** Mean of logit_normal; above 0, noisy timesteps are more frequent. @default 0 */
  logitMean?: number | undefined;
  /** Standard deviation of logit_normal. @default 1 */
  logitStd?: number | undefined;
  /** Passes over the dataset. @default 100 */
  epochs?: number | undefined;
  /** Optimizer steps of the run, in as many epochs as needed; default: as `epochs` says. */
  maxSteps?: number | undefined;
  /** Rows in a batch, per process. @default 8 */
  batchSize?: number | undefined;
  /** Steps between checkpoints; one is always written at the end. @default 2000 */
  saveSteps?: number | undefined;
  /** Checkpoints to keep, the newest ones; default: all. */
  checkpointsTotalLimit?: number | undefined;
  /** What older checkpoints keep: all, or adapter: not the optimizer's state, two thirds of each; the newest keeps all, to resume from. @default "all" */
  checkpointContent?: 'all' | 'adapter' | undefined;
  /** Batches to skip because of a NaN or infinite loss or gradient before the run stops. @default 0 */
  maxNanSteps?: number | undefined;
  /** Precision of the frozen models; trained weights stay in fp32. @default "no" */
  mixedPrecision?: 'no' | 'fp16' | 'bf16' | undefined;
  /** Precision in which several processes add their gradients up; bf16 sends half the bytes, and the result then depends on the number of processes; default: fp32. */
  reduceDtype?: 'fp32' | 'bf16' | undefined;
  /** Record the kernels of a step as CUDA graphs, one for each shape; `dryRun` does not. @default false */
  cudaGraphs?: boolean | undefined;
  /** Layers at the end of the text encoder to leave out, as diffusers' clip_skip. @default 0 */
  clipSkip?: number | undefined;
  /** Batches to prepare ahead; 0: chosen automatically. @default 0 */
  dataloaderNumWorkers?: number | undefined;
  /** Seed of initial weights, noise, shuffling and dropped conditions. @default 0 */
  seed?: number | undefined;
  /** Resume from this checkpoint; without a value or latest: from the newest one in `outputDir`; auto: likewise, or from the start where there is none. */
  resume?: true | string | undefined;
  /** Encode each row once and keep the result on disk: latents, text, image, or several; none: do not; default: none. */
  cache?: string | string[] | undefined;
  /** Folder for `cache`, which runs may share; default: cache in `outputDir`. */
  cacheDir?: string | undefined;
  /** Where metrics go besides metrics.jsonl: tensorboard, for event files, or none. @default "tensorboard" */
  reportTo?: string | undefined;
  /** Folder for the event files, relative to `outputDir`. @default "logs" */
  loggingDir?: string | undefined;
  /** Rows to hold out from training, chosen by `seed` and their names: their loss with the right reference image, another, none, and without adapter shows whether the adapter uses its image; measured after 50, 100, 200 and every `validationSteps` steps; 32 or more. */
  validationSplit?: number | undefined;
  /** Rows to measure on, in place of `validationSplit`: a dataset of any form; of more than 64 rows, 64. */
  validationDataset?: string | string[] | undefined;
  /** Held-out rows to generate an image for every `validationSteps`, and to score: CLIP-I, DINO, CLIP-T, retrieval, beside no adapter and another reference. */
  validationScores?: number | undefined;
  /** CLIP that measures: a whole CLIP model or an image encoder, folder or name on the Hub; default: `imageEncoder`. */
  metricEncoder?: string | undefined;
  /** CLIP text encoder for CLIP-T, if `metricEncoder` has none: folder or name on the Hub. */
  metricTextEncoder?: string | undefined;
  /** Image encoder for the DINO score, such as DINO ViT-S/16 or DINOv2: folder in the transformers layout, or name on the Hub; default: no such score. */
  dinoEncoder?: string | undefined;
  /** Also keep the checkpoint that is the best by this measure of `validationSplit` or `validationScores`; the link best in `outputDir` leads to it. */
  keepBest?: 'gain' | 'retrieval' | 'dino' | 'clip-i' | 'clip-t' | undefined;
  /** Reference images to generate from during training; one row of the sheet each. */
  validationImages?: string[] | undefined;
  /** One prompt for each validation image, or one for all; default: no text. */
  validationPrompts?: string[] | undefined;
  /** Steps between validations, by images or held-out rows; one is always made at the end. @default 500 */
  validationSteps?: number | undefined;
  /** Generated images for each validation image. @default 1 */
  numValidationImages?: number | undefined;
  /** Strengths of the image prompt in validation images: 0 none, 1 as trained; default: 1. */
  validationScales?: number | number[] | undefined;
  /** Classifier-free guidance in validation; 1: none. @default 7.5 */
  validationGuidanceScale?: number | undefined;
  /** Denoising steps of a validation image. @default 30 */
  validationSamplingSteps?: number | undefined;
  /** What a run was asked for while it trained (ip-adapter steer), as its config.yaml records it: a run that is repeated does the same, but does not stop. */
  requests?:
    | {
        /** The step after which. */
        step: number;
        /** What the run is asked for. */
        request: 'sample' | 'save' | 'stop' | 'extend';
        /** With extend: how many steps more. */
        steps?: number | undefined;
      }[]
    | undefined;
  /** Device to run on: cpu, cuda or cuda:N; default: cuda if LibTorch finds a GPU, else cpu. */
  device?: string | undefined;
  /** CPU threads of LibTorch; default: all cores. */
  threads?: number | undefined;
}

/** The options of `checkDataset`. */
export interface CheckOptions {
  /** Folder of images with .txt captions, JSON, JSONL, Parquet, or WebDataset tars such as shards-{000..011}.tar, also https:// and hf://datasets/…, or a .txt file that lists them; - is a tar on standard input (train); several are joined. */
  dataset: string | string[];
  /** Folder that image_file in a JSON dataset is relative to; default: the JSON file's folder. */
  datasetRoot?: string | undefined;
  /** GB of remote shards to keep on disk, in the cache that all runs share; default: 100. */
  shardCacheSize?: number | undefined;
  /** Shards of a WebDataset that are read at a time, a batch taking rows from each in turn; 0: shuffle all rows; default: 64, or as the checkpoint. */
  openShards?: number | undefined;
  /** Width and height of the training images, pixels. @default 512 */
  resolution?: number | undefined;
  /** Train on images in their own aspect ratio, at most resolution × resolution pixels in area, instead of square crops. @default false */
  buckets?: boolean | undefined;
  /** Mirror half of the images in each epoch, together with their reference images. @default false */
  randomFlip?: boolean | undefined;
  /** Rows in a batch, per process. @default 8 */
  batchSize?: number | undefined;
  /** Seed of initial weights, noise, shuffling and dropped conditions. @default 0 */
  seed?: number | undefined;
  /** Train with other images of the same thing as references: what the rows of a thing share: folder (the folder of the image), prefix (its name up to the last - or _), or a column such as group; one for all datasets, or one for each; none: no groups; default: the image itself is the reference. */
  groupBy?: string | string[] | undefined;
  /** Text before every caption, with a space between; one for all datasets, or one for each. */
  captionPrefix?: string | string[] | undefined;
  /** How often an epoch has the rows of a dataset, one for all datasets or one for each; default: 1. */
  datasetRepeats?: number | number[] | undefined;
  /** Share of each dataset in an epoch, in any unit: 1 3 trains three rows of the second for one of the first; an epoch is as long as without. */
  datasetWeights?: number[] | undefined;
  /** Reference images of a row with `groupBy`, others in each epoch; their tokens are appended. @default 1 */
  referencesPerRow?: number | undefined;
  /** Share of the rows that drop their image prompt only in an epoch, 0 to 1; one for all datasets, or one for each. @default 0.05 */
  dropImage?: number | number[] | undefined;
  /** Share of the rows that drop their text only in an epoch, 0 to 1; one for all datasets, or one for each. @default 0.05 */
  dropText?: number | number[] | undefined;
  /** Share of the rows that drop both in an epoch, 0 to 1; one for all datasets, or one for each. @default 0.05 */
  dropBoth?: number | number[] | undefined;
  /** Share of the references that are mirrored, without their training image, 0 to 1 (RandomHorizontalFlip); default: none. */
  referenceFlip?: number | undefined;
  /** Take a random part of each reference, of this share of its area at least (RandomResizedCrop); default: all of it. */
  referenceCrop?: number | undefined;
  /** The most by which brightness, contrast, saturation and hue of references change at random: 0.2 0.2 0.2 0.05 (ColorJitter); default: not at all. */
  referenceColorJitter?: number | number[] | undefined;
  /** Turn references at random by at most as many degrees to either side (RandomRotation); default: not at all. */
  referenceRotation?: number | undefined;
  /** Variations that each reference has, which `cache` image keeps; default: others in every epoch, which cannot be cached. */
  imageVariants?: number | undefined;
  /** Count the loss where each row's mask is white: dog.mask.png beside dog.jpg, mask_file in JSON, KEY.mask.png in a tar, a column mask. @default false */
  maskedLoss?: boolean | undefined;
  /** Cut references to what their mask shows. @default false */
  referenceMaskCrop?: boolean | undefined;
  /** Colour in place of what the mask of a reference does not show, such as '#ffffff'; default: the image. */
  referenceBackground?: string | undefined;
  /** Stable Diffusion whose tokenizer counts the tokens of captions; default: no count. */
  model?: string | undefined;
  /** Image encoder in the transformers layout, whose preprocessing `show` draws with. */
  imageEncoder?: string | undefined;
  /** Rows to draw on a contact sheet as the encoders see them in the first epoch, after masks and random changes; default: none. */
  show?: number | undefined;
}
