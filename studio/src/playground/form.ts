/** @file The state of the playground's form. */
import type { WeightType } from '../../../src/options/reference-options.js';
import type { AdapterChoice } from '../../../src/studio/playground-choices.js';
import type { PlaygroundForm } from '../../../src/studio/playground-settings.js';

export interface Reference {
  /** Of the gallery. */
  name: string;
  /** The region where it acts; everywhere without. */
  mask?: string;
}

type AdapterForm = NonNullable<PlaygroundForm['adapters']>[number];

export interface AdapterState {
  adapter: string;
  imageEncoder: string;
  references: Reference[];
  scale: number;
  weightType: string;
  /** Settings without a field, which a file has restored. */
  more?: Pick<AdapterForm, 'weights' | 'combine' | 'range'>;
}

export interface ControlState {
  controlnet: string;
  /** Of the gallery. */
  image?: string;
  scale: number;
  range: readonly [start: number, end: number];
}

export interface LoraState {
  path: string;
  scale: number;
}

/** Numbers that may be left out are texts. */
export interface FormState {
  model: string;
  adapters: AdapterState[];
  prompt: string;
  negativePrompt: string;
  seed: number;
  numImages: number;
  steps: number;
  guidanceScale: number;
  scheduler: string;
  width: string;
  height: string;
  /** Of the gallery, as the mask. */
  initImage?: string | undefined;
  maskImage?: string | undefined;
  /** That of `generate` without. */
  strength?: number | undefined;
  controls: ControlState[];
  guessMode: boolean;
  loras: LoraState[];
  /** Settings without a field, which a file has restored. */
  more?: Pick<PlaygroundForm, 'device' | 'dtype'> | undefined;
}

/** What an adapter takes from its images, for people; every other weight type is kept where a file restores it. */
export const presets = [
  ['linear', 'Everything'],
  ['style', 'Style'],
  ['composition', 'Composition'],
] as const satisfies readonly (readonly [WeightType, string])[];

export const emptyAdapter: AdapterState = {
  ...{ adapter: '', imageEncoder: '', references: [], scale: 1, weightType: 'linear' },
};
export const emptyControl: ControlState = { controlnet: '', scale: 1, range: [0, 1] };

export const emptyForm: FormState = {
  ...{ model: '', adapters: [emptyAdapter], prompt: '', negativePrompt: '', seed: 0, numImages: 1 },
  ...{ steps: 30, guidanceScale: 7.5, scheduler: '', width: '', height: '' },
  ...{ controls: [], guessMode: false, loras: [] },
};

const storeKey = 'ip-adapter-studio-playground';

/** Returns the form as it was left. */
export function storedForm(): FormState {
  try {
    return { ...emptyForm, ...(JSON.parse(localStorage.getItem(storeKey) ?? '{}') as Partial<FormState>) };
  } catch {
    return emptyForm;
  }
}

export function storeForm(state: FormState): void {
  localStorage.setItem(storeKey, JSON.stringify(state));
}

/** Returns an adapter's state with what a choice was trained with. */
export function chosen(state: AdapterState, path: string, choice: AdapterChoice | undefined): AdapterState {
  return { ...state, adapter: path, imageEncoder: choice?.imageEncoder ?? state.imageEncoder };
}
