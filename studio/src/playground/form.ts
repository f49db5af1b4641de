/** @file The state of the playground's form, and how it is told to the API. */
import type { AdapterChoice } from '../../../src/studio/playground-choices.js';
import type { PlaygroundForm } from '../../../src/studio/playground-settings.js';
import { uploadImage } from '../api.js';

export interface Reference {
  /** Of the gallery. */
  name: string;
  /** The region where it acts; everywhere without. */
  mask?: string;
}

export interface AdapterState {
  adapter: string;
  imageEncoder: string;
  references: Reference[];
  scale: number;
  weightType: string;
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
}

/** What an adapter takes from its images, for people; every other weight type is kept where a file restores it. */
export const presets = [
  ['linear', 'Everything'],
  ['style', 'Style'],
  ['composition', 'Composition'],
] as const;

export const emptyAdapter: AdapterState = {
  ...{ adapter: '', imageEncoder: '', references: [], scale: 1, weightType: 'linear' },
};

const empty: FormState = {
  ...{ model: '', adapters: [emptyAdapter], prompt: '', negativePrompt: '', seed: 0, numImages: 1 },
  ...{ steps: 30, guidanceScale: 7.5, scheduler: '', width: '', height: '' },
};

const storeKey = 'ip-adapter-studio-playground';

/** Returns the form as it was left. */
export function storedForm(): FormState {
  try {
    return { ...empty, ...(JSON.parse(localStorage.getItem(storeKey) ?? '{}') as Partial<FormState>) };
  } catch {
    return empty;
  }
}

export function storeForm(state: FormState): void {
  localStorage.setItem(storeKey, JSON.stringify(state));
}

/** Returns an adapter's state with what a choice was trained with. */
export function chosen(state: AdapterState, path: string, choice: AdapterChoice | undefined): AdapterState {
  return { ...state, adapter: path, imageEncoder: choice?.imageEncoder ?? state.imageEncoder };
}

let white: Promise<string> | undefined;

/** Where one reference has a mask, those without act everywhere. */
function whiteMask(): Promise<string> {
  white ??= canvasImage(8, 8, (context) => {
    context.fillStyle = '#fff';
    context.fillRect(0, 0, 8, 8);
  });
  white.catch(() => {
    white = undefined;
  });
  return white;
}

async function canvasImage(
  width: number,
  height: number,
  draw: (context: CanvasRenderingContext2D) => void,
): Promise<string> {
  const canvas = document.createElement('canvas');
  Object.assign(canvas, { width, height });
  draw(canvas.getContext('2d') as CanvasRenderingContext2D);
  return uploadCanvas(canvas);
}

/** Gives what a canvas shows to the playground. @returns its name there */
export async function uploadCanvas(canvas: HTMLCanvasElement): Promise<string> {
  const blob = await new Promise<Blob | null>((resolve) => canvas.toBlob(resolve, 'image/png'));
  if (blob === null) throw new Error('The mask could not be drawn.');
  return uploadImage(blob);
}

export async function requestOf(state: FormState): Promise<PlaygroundForm> {
  const { scheduler, width, height, negativePrompt, ...rest } = state;
  const adapters = await Promise.all(
    state.adapters
      .filter(({ adapter }) => adapter !== '')
      .map(async ({ references, ...adapter }) => {
        const hasMasks = references.some(({ mask }) => mask !== undefined);
        return {
          ...adapter,
          images: references.map(({ name }) => name),
          ...(hasMasks
            ? { masks: await Promise.all(references.map(async ({ mask }) => mask ?? (await whiteMask()))) }
            : {}),
        };
      }),
  );
  return {
    ...rest,
    adapters: adapters as NonNullable<PlaygroundForm['adapters']>,
    ...(negativePrompt === '' ? {} : { negativePrompt }),
    ...(scheduler === '' ? {} : { scheduler: scheduler as NonNullable<PlaygroundForm['scheduler']> }),
    ...(width === '' ? {} : { width: Number(width) }),
    ...(height === '' ? {} : { height: Number(height) }),
  };
}

/** Returns the form's state of an image's settings. */
export function stateOf({ adapters = [], ...form }: PlaygroundForm): FormState {
  return {
    ...empty,
    ...{ model: form.model, prompt: form.prompt ?? '', negativePrompt: form.negativePrompt ?? '' },
    ...{ seed: form.seed ?? 0, steps: form.steps ?? empty.steps, scheduler: form.scheduler ?? '' },
    guidanceScale: form.guidanceScale ?? empty.guidanceScale,
    width: String(form.width ?? ''),
    height: String(form.height ?? ''),
    adapters: adapters.map(
      ({ adapter, imageEncoder, images = [], masks, scale = 1, weightType = 'linear' }) => ({
        ...{ adapter, imageEncoder, scale, weightType },
        references: images.map((name, i) => {
          const mask = masks?.[i];
          return mask === undefined ? { name } : { name, mask };
        }),
      }),
    ),
  };
}
