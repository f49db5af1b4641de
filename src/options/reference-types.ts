/** @file Written by tools/option-types.ts from the schemas; not to be edited. */
import type { RgbImage } from '../base/rgb-image.js';
import type { BlockScales } from './reference-options.js';

/** The reference images of one adapter. */
export interface ReferenceImages {
  /** Reference images, or embeddings: .safetensors files of ip-adapter embed, .ipadpt, .pt or .bin files of diffusers and ComfyUI. */
  images?: (string | RgbImage)[] | undefined;
  /** One weight for each reference image, in their order: a factor on its features, its share in a token average, or on the scale of its mask; 0 leaves it out; default: 1 each. */
  weights?: number[] | undefined;
}

/** How the reference images of one adapter act. */
export interface ReferenceSettings {
  /** How much the reference images count beside the text: little (scale 0.25), some (scale 0.5), half (scale 0.7), most (scale 1), everything (scale 1.5); default: most. */
  influence?: 'little' | 'some' | 'half' | 'most' | 'everything' | undefined;
  /** Strength of the image prompt beside the text: 0 none, 1 as trained; default: 1. */
  scale?: number | undefined;
  /** Start and end of the image prompt, as fractions of the noise schedule; default: 0 1. */
  range?: [number, number] | undefined;
  /** What the fractions of `range` are of: the trained noise schedule, as in ComfyUI, or the steps that are taken; default: schedule. */
  rangeIn?: 'schedule' | 'steps' | undefined;
  /** How several reference images become one prompt: concat appends their image tokens; add, subtract, average and norm-average are of features before the projection; token-average is of tokens; default: concat. */
  combine?: 'concat' | 'add' | 'subtract' | 'average' | 'norm-average' | 'token-average' | undefined;
  /** How the scale is spread over the layers, as in ComfyUI; style and composition take that alone from the image; default: linear. */
  weightType?:
    | 'linear'
    | 'ease-in'
    | 'ease-out'
    | 'ease-in-out'
    | 'reverse-in-out'
    | 'weak-input'
    | 'weak-output'
    | 'weak-middle'
    | 'strong-middle'
    | 'style'
    | 'style-transfer'
    | 'composition'
    | 'strong-style-transfer'
    | 'style-and-composition'
    | 'style-transfer-precise'
    | 'composition-precise'
    | undefined;
  /** Scale of the style layers in `weightType` composition-precise; default: `scale`. */
  styleScale?: number | undefined;
  /** Scale of the composition layers in `weightType` style-and-composition and style-transfer-precise; default: `scale`. */
  compositionScale?: number | undefined;
  /** Reference images of the composition layers in `weightType` style-and-composition; default: `images`. */
  compositionImages?: (string | RgbImage)[] | undefined;
  /** Factors on the scale by block or layer, JSON as in diffusers' set_ip_adapter_scale: {"up": {"block_0": [0, 1, 0]}}; by a layer's name; or by the number of a transformer: {"6": 1}; what is not named is 0. */
  blockScales?: BlockScales | undefined;
  /** What the scale multiplies: the attention's output (v-only), or its keys and values, as in ComfyUI; default: v-only. */
  embedsScaling?: 'v-only' | 'k+v' | 'k+v-c-penalty' | 'k+mean-v-c-penalty' | undefined;
  /** Images that are white where the references act, grey for less: one for all, or one for each reference image; default: everywhere. */
  masks?: (string | RgbImage)[] | undefined;
  /** How masks get a layer's size: bicubic to its height and width (site), or as diffusers or ComfyUI do; default: site. */
  maskFit?: 'site' | 'diffusers' | 'comfyui' | undefined;
  /** Image that the generated images should be unlike, or a file of embeddings; default: none. */
  negativeImage?: string | RgbImage | undefined;
  /** Noise over the negative image, or over black without one, as ComfyUI's IPAdapter Noise; default: none. */
  negativeNoise?: 'fade' | 'dissolve' | 'gaussian' | undefined;
  /** How much of that noise, from 0 to 1; default: 1. */
  noiseStrength?: number | undefined;
  /** What stands for no image on the negative side: as in training, or a black image as in ComfyUI; default: trained. */
  nullImage?: 'trained' | 'black' | undefined;
}

/** The reference images of one adapter, and how they act. */
export interface References extends ReferenceImages, ReferenceSettings {}
