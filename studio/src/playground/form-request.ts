/** @file How the playground's form is told to the API, and how it is restored from an image's settings. */
import type { PlaygroundForm } from '../../../src/studio/playground-settings.js';
import { type AdapterState, type ControlState, emptyForm, type FormState } from './form.js';
import { whiteMask } from './mask-image.js';

type Adapters = NonNullable<PlaygroundForm['adapters']>;

export async function requestOf(state: FormState): Promise<PlaygroundForm> {
  const { scheduler, width, height, negativePrompt, adapters, loras, more, ...rest } = state;
  const { initImage, maskImage, strength, controls, guessMode, ...plain } = rest;
  const used = adapters.filter(({ adapter }) => adapter !== '');
  return {
    ...plain,
    ...more,
    adapters: await Promise.all(used.map(adapterOf)),
    ...(negativePrompt === '' ? {} : { negativePrompt }),
    ...(scheduler === '' ? {} : { scheduler: scheduler as NonNullable<PlaygroundForm['scheduler']> }),
    ...(width === '' ? {} : { width: Number(width) }),
    ...(height === '' ? {} : { height: Number(height) }),
    ...(loras.length === 0 ? {} : { loras }),
    ...(initImage !== undefined && { initImage, maskImage, strength }),
    ...(controls.length > 0 && {
      controlnet: controls.map(({ controlnet }) => controlnet),
      controlImage: controls.map(({ image = '' }) => image),
      controlnetScale: controls.map(({ scale }) => scale),
      controlRange: controls.flatMap(({ range }) => range),
      guessMode,
    }),
  };
}

async function adapterOf({
  references,
  weightType,
  more,
  ...adapter
}: AdapterState): Promise<Adapters[number]> {
  const hasMasks = references.some(({ mask }) => mask !== undefined);
  return {
    ...adapter,
    ...more,
    weightType: weightType as NonNullable<Adapters[number]['weightType']>,
    images: references.map(({ name }) => name),
    // Where one reference has a mask, those without act everywhere.
    ...(hasMasks && {
      masks: await Promise.all(references.map(async ({ mask }) => mask ?? (await whiteMask()))),
    }),
  };
}

/** Returns the form's state of an image's settings. */
export function stateOf({ adapters = [], ...form }: PlaygroundForm): FormState {
  const { device, dtype } = form;
  return {
    ...emptyForm,
    ...{ model: form.model, prompt: form.prompt ?? '', negativePrompt: form.negativePrompt ?? '' },
    ...{ seed: form.seed ?? 0, steps: form.steps ?? emptyForm.steps, scheduler: form.scheduler ?? '' },
    guidanceScale: form.guidanceScale ?? emptyForm.guidanceScale,
    width: String(form.width ?? ''),
    height: String(form.height ?? ''),
    ...{ initImage: form.initImage, maskImage: form.maskImage, strength: form.strength },
    controls: controlsOf(form),
    guessMode: form.guessMode ?? false,
    loras: (form.loras ?? []).map(({ path, scale = 1 }) => ({ path, scale })),
    ...moreOf({ device, dtype }),
    adapters: adapters.map(({ images = [], masks, scale = 1, weightType = 'linear', ...adapter }) => {
      const { adapter: path, imageEncoder, ...more } = adapter;
      return {
        ...{ adapter: path, imageEncoder, scale, weightType },
        ...moreOf(more),
        references: images.map((name, i) => {
          // One mask is for all.
          const mask = masks?.[masks.length === 1 ? 0 : i];
          return mask === undefined ? { name } : { name, mask };
        }),
      };
    }),
  };
}

/** One scale and one range are for all. */
function controlsOf({
  controlnet = [],
  controlImage = [],
  controlnetScale: scales = [1],
  controlRange = [0, 1],
}: PlaygroundForm): ControlState[] {
  return controlnet.map((path, i) => {
    const first = controlRange.length === 2 ? 0 : 2 * i;
    const image = controlImage[i];
    return {
      controlnet: path,
      ...(image ? { image } : {}),
      scale: scales[scales.length === 1 ? 0 : i] ?? 1,
      range: [controlRange[first] ?? 0, controlRange[first + 1] ?? 1],
    };
  });
}

function moreOf<T extends object>(settings: T): { more?: T } {
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  return given.length === 0 ? {} : { more: Object.fromEntries(given) as T };
}
