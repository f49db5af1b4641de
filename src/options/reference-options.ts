/** @file The options of an adapter's reference images: what they are, how much they count, where and when. */
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { image } from './image-source.js';
import { flagOf, number } from './options.js';
import type { ReferenceSettings } from './reference-types.js';

/** How several references of one adapter become one prompt. */
export const combineModes = [
  'concat',
  'add',
  'subtract',
  'average',
  'norm-average',
  'token-average',
] as const;
export type CombineMode = (typeof combineModes)[number];

/** How the scale is spread over the layers: the weight types of ComfyUI_IPAdapter_plus, and `style` for its style transfer. */
export const weightTypes = [
  'linear',
  'ease-in',
  'ease-out',
  'ease-in-out',
  'reverse-in-out',
  'weak-input',
  'weak-output',
  'weak-middle',
  'strong-middle',
  'style',
  'style-transfer',
  'composition',
  'strong-style-transfer',
  'style-and-composition',
  'style-transfer-precise',
  'composition-precise',
] as const;
export type WeightType = (typeof weightTypes)[number];

/** What the scale multiplies: the attention's output, or its keys and values. */
export const embedsScalings = ['v-only', 'k+v', 'k+v-c-penalty', 'k+mean-v-c-penalty'] as const;
export type EmbedsScaling = (typeof embedsScalings)[number];

/** How a mask gets the size of an attention layer. */
const maskFits = ['site', 'diffusers', 'comfyui'] as const;
export type MaskFit = (typeof maskFits)[number];

/** How much the references count, in words: the scales are measured on the demo world (docs/references.md). */
export const influences = { little: 0.25, some: 0.5, half: 0.7, most: 1, everything: 1.5 } as const;
export type Influence = keyof typeof influences;

/** A scale for a block, or one for each of its transformers. */
type BlockScale = number | number[];
/** Scales by the names of blocks, as in diffusers' `set_ip_adapter_scale`, of layers, or of transformers by their number. */
export interface BlockScales {
  [block: string]: BlockScale | { [block: string]: BlockScale };
}

const scale = number(-1e4, 1e4);
const perTransformer = z.array(scale, 'must be a list of numbers').min(1, 'must not be empty');
const blockScale = z.union([scale, perTransformer], { error: 'must be a number, or a list of numbers' });
const blockScales = z
  .record(
    z.string(),
    z.union([blockScale, z.record(z.string(), blockScale)], {
      error: 'must be a number, a list of numbers, or an object of them by block',
    }),
    'must be an object such as {"up": {"block_0": [0, 1, 0]}}',
  )
  .meta({ tsType: 'BlockScales' });

const fraction = number(0, 1);
export const range = z
  .tuple([fraction, fraction], 'must be two numbers, [start, end]')
  .refine(([start, end]) => start <= end, 'must not end before it starts');

const images = z.array(image, 'must be a list of images');

/** The references themselves. */
export const referenceImages = {
  images: images
    .optional()
    .describe(
      'reference images, or embeddings: .safetensors files of ip-adapter embed, .ipadpt, .pt or .bin files of diffusers and ComfyUI',
    ),
  weights: z
    .array(number(0, 1e9))
    .optional()
    .describe(
      'one weight for each reference image, in their order: a factor on its features, its share in a token average, or on the scale of its mask; 0 leaves it out; default: 1 each',
    ),
};

/** How the references of an adapter act. The first says it in a word; the others are behind it. */
export const referenceSettings = {
  influence: z
    .enum(Object.keys(influences) as [Influence, ...Influence[]])
    .optional()
    .describe(
      `how much the reference images count beside the text: ${Object.entries(influences)
        .map(([word, value]) => `${word} (scale ${value})`)
        .join(', ')}; default: most`,
    ),
  scale: number(0, 1e4)
    .optional()
    .describe('strength of the image prompt beside the text: 0 none, 1 as trained; default: 1'),
  range: range
    .optional()
    .describe('start and end of the image prompt, as fractions of the noise schedule; default: 0 1'),
  rangeIn: z
    .enum(['schedule', 'steps'])
    .optional()
    .describe(
      'what the fractions of --range are of: the trained noise schedule, as in ComfyUI, or the steps that are taken; default: schedule',
    ),
  combine: z
    .enum(combineModes)
    .optional()
    .describe(
      'how several reference images become one prompt: concat appends their image tokens; add, subtract, average and norm-average are of features before the projection; token-average is of tokens; default: concat',
    ),
  weightType: z
    .enum(weightTypes)
    .optional()
    .describe(
      'how the scale is spread over the layers, as in ComfyUI; style and composition take that alone from the image; default: linear',
    ),
  styleScale: scale
    .optional()
    .describe('scale of the style layers in --weight-type composition-precise; default: --scale'),
  compositionScale: scale
    .optional()
    .describe(
      'scale of the composition layers in --weight-type style-and-composition and style-transfer-precise; default: --scale',
    ),
  compositionImages: images
    .optional()
    .describe(
      'reference images of the composition layers in --weight-type style-and-composition; default: --images',
    ),
  blockScales: blockScales
    .optional()
    .describe(
      'factors on the scale by block or layer, JSON as in diffusers\' set_ip_adapter_scale: {"up": {"block_0": [0, 1, 0]}}; by a layer\'s name; or by the number of a transformer: {"6": 1}; what is not named is 0',
    ),
  embedsScaling: z
    .enum(embedsScalings)
    .optional()
    .describe(
      "what the scale multiplies: the attention's output (v-only), or its keys and values, as in ComfyUI; default: v-only",
    ),
  masks: images
    .optional()
    .describe(
      'images that are white where the references act, grey for less: one for all, or one for each reference image; default: everywhere',
    ),
  maskFit: z
    .enum(maskFits)
    .optional()
    .describe(
      "how masks get a layer's size: bicubic to its height and width (site), or as diffusers or ComfyUI do; default: site",
    ),
  negativeImage: image
    .optional()
    .describe('image that the generated images should be unlike, or a file of embeddings; default: none'),
  negativeNoise: z
    .enum(['fade', 'dissolve', 'gaussian'])
    .optional()
    .describe(
      "noise over the negative image, or over black without one, as ComfyUI's IPAdapter Noise; default: none",
    ),
  noiseStrength: fraction.optional().describe('how much of that noise, from 0 to 1; default: 1'),
  nullImage: z
    .enum(['trained', 'black'])
    .optional()
    .describe(
      'what stands for no image on the negative side: as in training, or a black image as in ComfyUI; default: trained',
    ),
};

/** The settings behind `influence`, which help lists apart. */
export const detailKeys: ReadonlySet<string> = new Set(
  Object.keys(referenceSettings).filter((key) => key !== 'influence'),
);

/** One adapter's, in a list with an entry for each. */
export const referenceImagesSchema = z.strictObject(referenceImages).meta({ tsType: 'ReferenceImages' });
export const referenceSettingsSchema = z
  .strictObject(referenceSettings)
  .meta({ tsType: 'ReferenceSettings' });

/** Settings that have an effect only with another one. */
const dependent: readonly {
  key: keyof ReferenceSettings;
  needs: string;
  isMet: (settings: ReferenceSettings) => boolean;
}[] = [
  {
    key: 'styleScale',
    needs: '--weight-type (weightType) composition-precise',
    isMet: ({ weightType }) => weightType === 'composition-precise',
  },
  {
    key: 'compositionScale',
    needs: '--weight-type (weightType) style-and-composition or style-transfer-precise',
    isMet: ({ weightType }) =>
      weightType === 'style-and-composition' || weightType === 'style-transfer-precise',
  },
  {
    key: 'compositionImages',
    needs: '--weight-type (weightType) style-and-composition',
    isMet: ({ weightType }) => weightType === 'style-and-composition',
  },
  { key: 'maskFit', needs: '--masks (masks)', isMet: ({ masks }) => masks !== undefined },
  {
    key: 'noiseStrength',
    needs: '--negative-noise (negativeNoise)',
    isMet: ({ negativeNoise }) => negativeNoise !== undefined,
  },
  { key: 'rangeIn', needs: '--range (range)', isMet: ({ range: given }) => given !== undefined },
];

/** @throws ConfigError where settings contradict each other, or one has no effect without another */
export function assertConsistent(settings: ReferenceSettings): void {
  const { scale: exact, influence, weightType = 'linear', blockScales: blocks } = settings;
  const contradiction = (one: string, other: string): never => {
    throw new ConfigError(`${one} and ${other} are both given; give one of them`);
  };
  if (exact !== undefined && influence !== undefined)
    contradiction('--influence (influence)', '--scale (scale)');
  if (blocks !== undefined && weightType !== 'linear' && !weightType.endsWith('-precise'))
    contradiction(`--weight-type (weightType) ${weightType}`, '--block-scales (blockScales)');
  const useless = dependent.find(({ key, isMet }) => settings[key] !== undefined && !isMet(settings));
  if (useless === undefined) return;
  throw new ConfigError(`${flagOf(useless.key)} (${useless.key}) has no effect without ${useless.needs}`);
}
