/** @file Written by tools/option-types.ts from the schemas; not to be edited. */
import type { RgbImage } from '../base/rgb-image.js';
import type { LoraOptions } from './lora-options.js';
import type { ReferenceImages, ReferenceSettings, References } from './reference-types.js';

/** An adapter and its image encoder. */
export interface AdapterFiles {
  /** IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub. */
  adapter: string;
  /** Image encoder that the adapter was trained with: folder or name on the Hub; not needed for saved embeddings. */
  imageEncoder?: string | undefined;
}

/** An adapter and its reference images. */
export interface AdapterWithReferences extends AdapterFiles, References {}

/** The models of an `IPAdapterPipeline`. */
export interface PipelineOptions {
  /** Stable Diffusion: folder in the diffusers layout, .safetensors or .ckpt file of 1.x or XL, or name on the Hub. */
  model: string;
  /** IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub; default: none, text alone. */
  adapter?: string | undefined;
  /** Image encoder that the adapter was trained with: folder or name on the Hub; not needed for saved embeddings. */
  imageEncoder?: string | undefined;
  /** Several adapters, each with its own options, instead of the options of one. */
  adapters?: AdapterFiles[] | undefined;
  /** LoRAs merged into the model, each as path or path:scale: .safetensors file, folder or name on the Hub; a scale of 1 is as trained. */
  loras?: (string | LoraOptions)[] | undefined;
  /** ControlNets: folders in the diffusers layout, .safetensors or .pth files, or names on the Hub. */
  controlnet?: string | string[] | undefined;
  /** Device to run on: cpu, cuda or cuda:N; default: cuda if LibTorch finds a GPU, else cpu. */
  device?: string | undefined;
  /** Precision of the models; default: float32 on the CPU, float16 on a GPU. */
  dtype?: 'float32' | 'float16' | 'bfloat16' | undefined;
  /** CPU threads of LibTorch; default: all cores. */
  threads?: number | undefined;
}

/** The content of one image of `pipeline.generateEach`. */
export interface Job extends ReferenceImages {
  /** Text that the images follow. */
  prompt?: string | undefined;
  /** Seed of the noise. @default 0 */
  seed?: number | undefined;
  /** Images and weights of each loaded adapter, in their order, instead of those of one. */
  adapters?: ReferenceImages[] | undefined;
}

/** How the images of `pipeline.generateEach` are generated. */
export interface DrawOptions extends ReferenceSettings {
  /** Text that the images should be unlike; default: none. */
  negativePrompt?: string | undefined;
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
  /** Width in pixels; default: the source image's, or the model's own size. */
  width?: number | undefined;
  /** Height in pixels; default: the source image's, or the model's own size. */
  height?: number | undefined;
  /** Layers at the end of the text encoder to leave out, as diffusers' clip_skip. @default 0 */
  clipSkip?: number | undefined;
  /** SDXL: height and width that the image is to seem cut from, in pixels; default: its own. */
  originalSize?: [number, number] | undefined;
  /** SDXL: top and left of that cut, in pixels; default: 0 0. */
  cropsCoordsTopLeft?: [number, number] | undefined;
  /** SDXL: height and width of the cut, in pixels; default: its own. */
  targetSize?: [number, number] | undefined;
  /** Reference images that are not square: crop keeps the middle, or the named end; resize squeezes the whole; pad adds black. @default "crop" */
  imageFit?: 'crop' | 'crop-top' | 'crop-bottom' | 'crop-left' | 'crop-right' | 'resize' | 'pad' | undefined;
  /** Image to start from (image-to-image); with a mask, the image to change a part of. */
  initImage?: string | RgbImage | undefined;
  /** Inpainting: white where the image becomes new, black where it stays; resized like the image. */
  maskImage?: string | RgbImage | undefined;
  /** How far the image is changed: the share of the steps that are done, above 0 to 1; default: 0.8, with a mask 1. */
  strength?: number | undefined;
  /** Conditioning images of the ControlNets, one for each, such as edges, poses or depth; used as they are. */
  controlImage?: string | RgbImage | (string | RgbImage)[] | undefined;
  /** Strength of the ControlNets, one for all or for each: 0 none, 1 as trained; default: 1. */
  controlnetScale?: number | number[] | undefined;
  /** Start and end of the steps in which the ControlNets act, as fractions, for all or for each; default: 0 1. */
  controlRange?: number[] | undefined;
  /** ControlNets act on the prompt alone, not on the negative prompt, and recognise what they see. @default false */
  guessMode?: boolean | undefined;
  /** Encode and decode images larger than the VAE was trained on in tiles, which needs less memory. @default false */
  vaeTiling?: boolean | undefined;
  /** Steps between previews of the images under way, one pixel for a latent, in a file named after `out` that ends in -preview.png; default: none. */
  previewSteps?: number | undefined;
  /** Images generated at the same time. @default 4 */
  batchSize?: number | undefined;
  /** Scale and other settings of each loaded adapter, in their order, instead of those of one. */
  adapters?: ReferenceSettings[] | undefined;
}

/** The options of `pipeline.generate`. */
export interface PromptOptions extends Omit<Job, 'adapters'>, Omit<DrawOptions, 'adapters'> {
  /** Images to generate; the n-th has the seed plus n, from 0. @default 1 */
  numImages?: number | undefined;
  /** Several adapters, each with its own options, instead of the options of one. */
  adapters?: References[] | undefined;
}

/** The options of `generate`: models and prompts. */
export interface GenerateOptions extends Omit<PipelineOptions, 'adapters'>, Omit<PromptOptions, 'adapters'> {
  /** Several adapters, each with its own options, instead of the options of one. */
  adapters?: AdapterWithReferences[] | undefined;
}

/** The options of `embed`. */
export interface EmbedOptions {
  /** Image encoder: folder in the transformers layout, or name on the Hub. */
  imageEncoder: string;
  /** Image files to encode. */
  images: string[];
  /** Reference images that are not square: crop keeps the middle, or the named end; resize squeezes the whole; pad adds black. @default "crop" */
  imageFit?: 'crop' | 'crop-top' | 'crop-bottom' | 'crop-left' | 'crop-right' | 'resize' | 'pad' | undefined;
  /** Whose file to write: ours, for every kind of adapter, or for `kind` that of diffusers (ip_adapter_image_embeds) or of ComfyUI (Load IPAdapter Embeds). @default "ip-adapter" */
  format?: 'ip-adapter' | 'diffusers' | 'comfyui' | undefined;
  /** Kind of adapter that reads the file of another `format`: plus, base or full-face. */
  kind?: 'plus' | 'base' | 'full-face' | undefined;
  /** File to write, ending in .safetensors; in .ipadpt, .pt or .bin for another `format`. */
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
  extends Omit<PipelineOptions, 'adapter' | 'imageEncoder' | 'adapters' | 'controlnet'>,
    Omit<
      DrawOptions,
      | 'influence'
      | 'scale'
      | 'imageFit'
      | 'initImage'
      | 'maskImage'
      | 'strength'
      | 'controlImage'
      | 'controlnetScale'
      | 'controlRange'
      | 'guessMode'
      | 'batchSize'
      | 'adapters'
    > {
  /** IP-Adapter: .safetensors or .bin file, checkpoint or output folder of train, or name on the Hub; several are compared with the first, image by image. */
  adapter: string | string[];
  /** Image encoder that the adapter was trained with: folder or name on the Hub. */
  imageEncoder: string;
  /** Folder of images with .txt captions, JSON, JSONL, Parquet, or WebDataset tars such as shards-{000..011}.tar, also https:// and hf://datasets/…, or a .txt file that lists them; - is a tar on standard input (train); several are joined. */
  dataset: string | string[];
  /** Folder that image_file in a JSON dataset is relative to; default: the JSON file's folder. */
  datasetRoot?: string | undefined;
  /** GB of remote shards to keep on disk, in the cache that all runs share; default: 100. */
  shardCacheSize?: number | undefined;
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
  /** Image encoder for the DINO score, such as DINO ViT-S/16 or DINOv2: folder in the transformers layout, or name on the Hub; default: no such score. */
  dinoEncoder?: string | undefined;
}
