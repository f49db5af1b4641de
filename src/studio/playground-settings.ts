/** @file The settings of the playground: what a request may say, and what the engine is told. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { promptOptionsSchema } from '../options/generate-options.js';
import type { PipelineOptions, PromptOptions } from '../options/generate-types.js';
import { loraScale } from '../options/lora-options.js';
import { targetOptions, whole } from '../options/options.js';
import { referenceImages, referenceSettings } from '../options/reference-options.js';
import { controlnetScale, sourceFault } from '../options/source-options.js';
import { modelFault, type StudioFolders } from './folders.js';

/** What finds the files of the gallery's images. */
export interface Names {
  fileOf(name: string): string | undefined;
  nameOf(file: string): string | undefined;
}

const text = z.string('must be text').max(20_000, 'must be shorter');
const names = z.array(text).max(16, 'must be 16 images at most');

const { prompt, negativePrompt, seed, guidanceScale, steps, scheduler, width, height } =
  promptOptionsSchema.shape;
const { strength, controlRange, guessMode } = promptOptionsSchema.shape;
const { scale, weightType, combine, range } = referenceSettings;

/** @param path of a model */
function schemaOf(path: z.ZodString) {
  const adapter = z.strictObject({
    ...{ adapter: path, imageEncoder: path, images: names.default([]), masks: names.optional() },
    ...{ weights: referenceImages.weights, scale, weightType, combine, range },
  });
  const lora = z.strictObject({ path, scale: loraScale.default(1) });
  return z.strictObject({
    model: path,
    loras: z.array(lora).max(16, 'must be 16 LoRAs at most').optional(),
    adapters: z.array(adapter).max(4, 'must be 4 adapters at most').default([]),
    ...{ prompt, negativePrompt, seed, guidanceScale, steps, scheduler, width, height },
    ...{ initImage: text.optional(), maskImage: text.optional(), strength },
    controlnet: z.array(path).max(4, 'must be 4 ControlNets at most').optional(),
    controlImage: names.optional(),
    ...{ controlnetScale: z.array(controlnetScale).optional(), controlRange, guessMode },
    numImages: whole(1, 16).default(1),
    device: targetOptions.device,
    dtype: targetOptions.dtype,
  });
}

/** Images are names of the gallery; everything else is as in the options of `generate`. */
const playgroundSchema = schemaOf(text.min(1, 'must not be empty'));
/** What an image's file restores: paths of models may be empty, where they are not known. */
export const restoredSchema = schemaOf(text);

/** As the page sends them. */
export type PlaygroundForm = z.input<typeof playgroundSchema>;

/** Returns what the engine is told, or what is wrong by place, such as `adapters[0].scale`. */
export function checkPlayground(
  given: unknown,
  gallery: Names,
  folders: StudioFolders,
): { models: PipelineOptions; prompt: PromptOptions } | { errors: Record<string, string> } {
  const checked = playgroundSchema.safeParse(given);
  const errors: Record<string, string> = {};
  if (!checked.success) {
    for (const { path: at, message } of checked.error.issues) errors[placeOf(at)] ??= message;
    return { errors };
  }
  const { model, loras, controlnet, adapters, numImages, device, dtype, ...rest } = checked.data;
  const pathOf = (place: string, value: string): string => {
    const fault = modelFault(place, value, folders);
    // The engine would take a ~ at the start for the home folder.
    if (fault === undefined) return existsSync(value) ? resolve(value) : value.replace(/^~/, './~');
    errors[place] = fault;
    return value;
  };
  const fileOf = (place: string, name: string): string => {
    const file = gallery.fileOf(name);
    if (file === undefined) errors[place] = 'the image is not there any more; drop it again';
    return file ?? '';
  };
  const filesOf = (place: string, list: readonly string[]): string[] =>
    list.map((name) => fileOf(place, name));
  const models: PipelineOptions = {
    model: pathOf('model', model),
    adapters: adapters.map(({ adapter, imageEncoder }, i) => ({
      adapter: pathOf(`adapters[${i}].adapter`, adapter),
      imageEncoder: pathOf(`adapters[${i}].imageEncoder`, imageEncoder),
    })),
    ...(loras?.length
      ? { loras: loras.map((one, i) => ({ ...one, path: pathOf(`loras[${i}].path`, one.path) })) }
      : {}),
    ...(controlnet?.length
      ? { controlnet: controlnet.map((one, i) => pathOf(`controlnet[${i}]`, one)) }
      : {}),
    ...{ device, dtype },
  };
  const references = adapters.map(({ adapter: _, imageEncoder: __, images, masks, ...settings }, i) => ({
    ...settings,
    images: filesOf(`adapters[${i}].images`, images),
    ...(masks === undefined ? {} : { masks: filesOf(`adapters[${i}].masks`, masks) }),
  }));
  const { initImage, maskImage, controlImage, ...draw } = rest;
  const sources = {
    ...(initImage === undefined ? {} : { initImage: fileOf('initImage', initImage) }),
    ...(maskImage === undefined ? {} : { maskImage: fileOf('maskImage', maskImage) }),
    ...(controlImage?.length
      ? { controlImage: controlImage.map((one, i) => fileOf(`controlImage[${i}]`, one)) }
      : {}),
  };
  const fault = sourceFault({ ...draw, ...sources }, controlnet?.length ?? 0);
  if (fault !== undefined) errors[fault.key] ??= fault.message;
  if (Object.keys(errors).length > 0) return { errors };
  const previewSteps = Math.max(1, Math.floor(draw.steps / 25));
  return { models, prompt: { ...draw, ...sources, numImages, previewSteps, adapters: references } };
}

function placeOf(path: readonly PropertyKey[]): string {
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${String(part)}`))
    .join('');
}
