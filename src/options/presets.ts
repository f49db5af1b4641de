/**
 * @file Presets of `train`, for three sizes of a dataset (docs/recipes.md). Each is a set of ordinary options, of which any can be
 * given beside it, and wins. Models, data, resolution and what depends on the machine are the user's.
 */
import type { TrainOptions } from './train-types.js';

type Preset = Readonly<Partial<TrainOptions>>;

export const presetNames = ['fine-tune', 'small', 'large'] as const;

export type PresetName = (typeof presetNames)[number];

/** Encodings of few images are small, and without the encoders a step takes less memory and time. */
const cache = ['latents', 'text', 'image'] as const satisfies TrainOptions['cache'];

/** What each preset is for. */
export const presetTexts: Readonly<Record<PresetName, string>> = {
  'fine-tune':
    'about 20 images, from a trained adapter: few steps at a low rate, so that it does not forget what it knows',
  small: 'about 1,000 images, from a trained adapter: 32 passes, and rows held out to see whether it learns',
  large:
    "about 100,000 images, also for a new adapter: the original's rate at 64 rows a step, and an average of the weights",
};

export const presets: Readonly<Record<PresetName, Preset>> = {
  'fine-tune': {
    ...{ maxSteps: 400, batchSize: 4, learningRate: 2e-5 },
    ...{ lrScheduler: 'cosine', lrWarmupSteps: 40, maxGradNorm: 1 },
    ...{ cache: [...cache], saveSteps: 100, checkpointContent: 'adapter' },
  },
  small: {
    ...{ maxSteps: 4000, batchSize: 8, learningRate: 5e-5 },
    ...{ lrScheduler: 'cosine', lrWarmupSteps: 200, maxGradNorm: 1 },
    ...{ buckets: true, cache: [...cache], validationSplit: 32 },
    ...{ saveSteps: 500, checkpointsTotalLimit: 8, checkpointContent: 'adapter' },
  },
  large: {
    ...{ maxSteps: 50_000, batchSize: 8, gradientAccumulationSteps: 8, learningRate: 1e-4 },
    ...{ lrScheduler: 'constant_with_warmup', lrWarmupSteps: 1000, maxGradNorm: 1, useEma: true },
    ...{ buckets: true, validationSplit: 128, validationSteps: 1000 },
    ...{ saveSteps: 2000, checkpointsTotalLimit: 10, checkpointContent: 'adapter' },
  },
};

/** Options whose place is taken by another of the user's, since one of the two has no effect beside the other, or is refused. */
const insteadOf: Readonly<Partial<Record<keyof TrainOptions, keyof TrainOptions>>> = {
  maxSteps: 'epochs',
  validationSplit: 'validationDataset',
};

/**
 * Returns what a preset sets beside options of the user, and what these override.
 * @param users by name, aliases resolved
 */
export function presetBeside(
  name: PresetName,
  users: Readonly<Record<string, unknown>>,
): { set: Preset; overridden: Preset } {
  const isUsers = (key: string): boolean =>
    users[key] !== undefined || users[insteadOf[key as keyof TrainOptions] ?? key] !== undefined;
  const part = (isOverridden: boolean): Preset =>
    Object.fromEntries(Object.entries(presets[name]).filter(([key]) => isUsers(key) === isOverridden));
  return { set: part(false), overridden: part(true) };
}
