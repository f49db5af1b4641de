/** @file Written by tools/option-types.ts from the schemas; not to be edited. */
import type { RgbImage } from '../base/rgb-image.js';

/** The models of an `IPAdapterPipeline`. */
export interface PipelineOptions {
  /** Stable Diffusion: folder in the diffusers layout, .safetensors or .ckpt file of 1.x or XL, or name on the Hub. */
  model: string;
  /** IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub; default: none, text alone. */
  adapter?: string | undefined;
  /** CLIP image encoder that the adapter was trained with: folder or name on the Hub; not needed for saved embeddings. */
  imageEncoder?: string | undefined;
  /** Several adapters, each with its own options, instead of the options of one. */
  adapters?:
    | {
        /** IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub. */
        adapter: string;
        /** CLIP image encoder that the adapter was trained with: folder or name on the Hub; not needed for saved embeddings. */
        imageEncoder?: string | undefined;
      }[]
    | undefined;
  /** Device to run on: cpu, cuda or cuda:N; default: cuda if LibTorch finds a GPU, else cpu. */
  device?: string | undefined;
  /** Precision of the models; default: float32 on the CPU, float16 on a GPU. */
  dtype?: 'float32' | 'float16' | 'bfloat16' | undefined;
  /** CPU threads of LibTorch; default: all cores. */
  threads?: number | undefined;
}

/** The content of one image of `pipeline.generateEach`. */
export interface Job {
  /** Text that the images follow. */
  prompt?: string | undefined;
  /** Seed of the noise. @default 0 */
  seed?: number | undefined;
  /** Reference images, or .safetensors files of ip-adapter embed. */
  images?: (string | RgbImage)[] | undefined;
  /** One weight for each reference image, in their order; default: equal weights. */
  weights?: number[] | undefined;
  /** Images and weights of each loaded adapter, in their order, instead of those of one. */
  adapters?:
    | {
        /** Reference images, or .safetensors files of ip-adapter embed. */
        images?: (string | RgbImage)[] | undefined;
        /** One weight for each reference image, in their order; default: equal weights. */
        weights?: number[] | undefined;
      }[]
    | undefined;
}

/** How the images of `pipeline.generateEach` are generated. */
export interface DrawOptions {
  /** Text that the images should be unlike; default: none. */
  negativePrompt?: string | undefined;
  /** Strength of the image prompt beside the text: 0 none, 1 as trained; default: 1. */
  scale?: number | undefined;
  /** Start and end of the steps in which the image prompt acts, as fractions; default: 0 1. */
  range?: [number, number] | undefined;
  /** Classifier-free guidance; 1: none. @default 7.5 */
  guidanceScale?: number | undefined;
  /** Share in which guided predictions get the spread of unguided ones, against too much contrast. @default 0 */
  guidanceRescale?: number | undefined;
  /** Start and end of the steps in which guidance acts, as fractions; default: 0 1. */
  guidanceRange?: [number, number] | undefined;
  /** Prompt and negative prompt in one call of the model, or in turn, which takes less memory. @default "together" */
  guidanceBatch?: 'together' | 'in-turn' | undefined;
  /** Denoising steps. @default 30 */
  steps?: number | undefined;
  /** Generator of the noise: the CPU's, the same on every device and as diffusers' with a CPU generator, or the device's own. @default "cpu" */
  noise?: 'cpu' | 'device' | undefined;
  /** Sampler; default: the model's own. */
  scheduler?:
    | 'ddim'
    | 'ddpm'
    | 'pndm'
    | 'euler-a'
    | 'lcm'
    | 'tcd'
    | 'euler'
    | 'heun'
    | 'lms'
    | 'dpm2'
    | 'dpm2-a'
    | 'dpmpp-2m'
    | 'dpmpp-2m-sde'
    | 'dpmpp-3m-sde'
    | 'dpmpp-sde'
    | 'dpmpp-singlestep'
    | 'deis'
    | 'unipc'
    | 'euler-karras'
    | 'euler-exponential'
    | 'euler-beta'
    | 'heun-karras'
    | 'heun-exponential'
    | 'heun-beta'
    | 'lms-karras'
    | 'lms-exponential'
    | 'lms-beta'
    | 'dpm2-karras'
    | 'dpm2-exponential'
    | 'dpm2-beta'
    | 'dpm2-a-karras'
    | 'dpm2-a-exponential'
    | 'dpm2-a-beta'
    | 'dpmpp-2m-karras'
    | 'dpmpp-2m-exponential'
    | 'dpmpp-2m-beta'
    | 'dpmpp-2m-sde-karras'
    | 'dpmpp-2m-sde-exponential'
    | 'dpmpp-2m-sde-beta'
    | 'dpmpp-3m-sde-karras'
    | 'dpmpp-3m-sde-exponential'
    | 'dpmpp-3m-sde-beta'
    | 'dpmpp-sde-karras'
    | 'dpmpp-sde-exponential'
    | 'dpmpp-sde-beta'
    | 'dpmpp-singlestep-karras'
    | 'dpmpp-singlestep-exponential'
    | 'dpmpp-singlestep-beta'
    | 'deis-karras'
    | 'deis-exponential'
    | 'deis-beta'
    | 'unipc-karras'
    | 'unipc-exponential'
    | 'unipc-beta'
    | undefined;
  /** Width in pixels; default: the model's own size. */
  width?: number | undefined;
  /** Height in pixels; default: the model's own size. */
  height?: number | undefined;
  /** Layers at the end of the text encoder to leave out, as diffusers' clip_skip. @default 0 */
  clipSkip?: number | undefined;
  /** SDXL: height and width that the image is to seem cut from, in pixels; default: its own. */
  originalSize?: [number, number] | undefined;
  /** SDXL: top and left of that cut, in pixels; default: 0 0. */
  cropsCoordsTopLeft?: [number, number] | undefined;
  /** SDXL: height and width of the cut, in pixels; default: its own. */
  targetSize?: [number, number] | undefined;
  /** Reference images that are not square: crop keeps the middle, resize squeezes the whole. @default "crop" */
  imageFit?: 'crop' | 'resize' | undefined;
  /** Images generated at the same time. @default 4 */
  batchSize?: number | undefined;
  /** Scale and range of each loaded adapter, in their order, instead of those of one. */
  adapters?:
    | {
        /** Strength of the image prompt beside the text: 0 none, 1 as trained; default: 1. */
        scale?: number | undefined;
        /** Start and end of the steps in which the image prompt acts, as fractions; default: 0 1. */
        range?: [number, number] | undefined;
      }[]
    | undefined;
}

/** The options of `pipeline.generate`. */
export interface PromptOptions extends Omit<Job, 'adapters'>, Omit<DrawOptions, 'adapters'> {
  /** Images to generate; the n-th has the seed plus n, from 0. @default 1 */
  numImages?: number | undefined;
  /** Several adapters, each with its own options, instead of the options of one. */
  adapters?:
    | {
        /** Reference images, or .safetensors files of ip-adapter embed. */
        images?: (string | RgbImage)[] | undefined;
        /** One weight for each reference image, in their order; default: equal weights. */
        weights?: number[] | undefined;
        /** Strength of the image prompt beside the text: 0 none, 1 as trained; default: 1. */
        scale?: number | undefined;
        /** Start and end of the steps in which the image prompt acts, as fractions; default: 0 1. */
        range?: [number, number] | undefined;
      }[]
    | undefined;
}

/** The options of `generate`: models and prompts. */
export interface GenerateOptions extends Omit<PipelineOptions, 'adapters'>, Omit<PromptOptions, 'adapters'> {
  /** Several adapters, each with its own options, instead of the options of one. */
  adapters?:
    | {
        /** IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub. */
        adapter: string;
        /** CLIP image encoder that the adapter was trained with: folder or name on the Hub; not needed for saved embeddings. */
        imageEncoder?: string | undefined;
        /** Reference images, or .safetensors files of ip-adapter embed. */
        images?: (string | RgbImage)[] | undefined;
        /** One weight for each reference image, in their order; default: equal weights. */
        weights?: number[] | undefined;
        /** Strength of the image prompt beside the text: 0 none, 1 as trained; default: 1. */
        scale?: number | undefined;
        /** Start and end of the steps in which the image prompt acts, as fractions; default: 0 1. */
        range?: [number, number] | undefined;
      }[]
    | undefined;
}

/** The options of `embed`. */
export interface EmbedOptions {
  /** CLIP image encoder: folder in the transformers layout, or name on the Hub. */
  imageEncoder: string;
  /** Image files to encode. */
  images: string[];
  /** Reference images that are not square: crop keeps the middle, resize squeezes the whole. @default "crop" */
  imageFit?: 'crop' | 'resize' | undefined;
  /** File to write, ending in .safetensors. */
  out: string;
  /** Device to run on: cpu, cuda or cuda:N; default: cuda if LibTorch finds a GPU, else cpu. */
  device?: string | undefined;
  /** Precision of the models; default: float32 on the CPU, float16 on a GPU. */
  dtype?: 'float32' | 'float16' | 'bfloat16' | undefined;
  /** CPU threads of LibTorch; default: all cores. */
  threads?: number | undefined;
}

/** The options of `evaluate`. */
export interface EvaluateOptions
  extends Omit<PipelineOptions, 'adapter' | 'imageEncoder' | 'adapters'>,
    Omit<DrawOptions, 'scale' | 'imageFit' | 'batchSize' | 'adapters'> {
  /** IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub. */
  adapter: string;
  /** CLIP image encoder that the adapter was trained with: folder or name on the Hub. */
  imageEncoder: string;
  /** Folder of images with .txt captions, JSON, JSONL, Parquet, or WebDataset tars such as shards-{000..011}.tar; - is a tar on standard input (train); several are joined. */
  dataset: string | string[];
  /** Folder that image_file in a JSON dataset is relative to; default: the JSON file's folder. */
  datasetRoot?: string | undefined;
  /** Rows to use, from the first on; retrieval is among so many images. @default 64 */
  maxRows?: number | undefined;
  /** Images to generate for each row. @default 1 */
  imagesPerRow?: number | undefined;
  /** Text prompt beside the image: none, or the row's caption. @default "none" */
  text?: 'none' | 'caption' | undefined;
  /** Images generated at the same time. @default 16 */
  batchSize?: number | undefined;
  /** Scales of the image prompt to compare; 0 is without adapter; default: 0 1. */
  scales?: number[] | undefined;
  /** Seed of the first image; each next one has one more. @default 0 */
  seed?: number | undefined;
  /** CLIP that measures: a whole CLIP model or an image encoder, folder or name on the Hub; default: `imageEncoder`. */
  metricEncoder?: string | undefined;
  /** CLIP text encoder for CLIP-T, if `metricEncoder` has none: folder or name on the Hub. */
  metricTextEncoder?: string | undefined;
}
