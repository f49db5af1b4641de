/** @file The settings of the playground: what a request may say, what the engine is told, and what an image's file restores. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { z } from 'zod';
import { isJsonObject } from '../base/json.js';
import { knownPlace } from '../diffusion/known-places.js';
import { readSettingsText } from '../images/generated-file.js';
import { promptOptionsSchema } from '../options/generate-options.js';
import type { PipelineOptions, PromptOptions } from '../options/generate-types.js';
import { targetOptions, whole } from '../options/options.js';
import { referenceImages, referenceSettings } from '../options/reference-options.js';
import { modelFault, type StudioFolders } from './folders.js';

/** What finds the files of the gallery's images. */
interface Names {
  fileOf(name: string): string | undefined;
  nameOf(file: string): string | undefined;
}

const text = z.string('must be text').max(20_000, 'must be shorter');
const path = text.min(1, 'must not be empty');
const names = z.array(text).max(16, 'must be 16 images at most');

const { prompt, negativePrompt, seed, guidanceScale, steps, scheduler, width, height } =
  promptOptionsSchema.shape;
const { scale, weightType, combine, range } = referenceSettings;

const adapterShape = {
  ...{ adapter: path, imageEncoder: path, images: names.default([]), masks: names.optional() },
  ...{ weights: referenceImages.weights, scale, weightType, combine, range },
};

/** Images are names of the gallery; everything else is as in the options of `generate`. */
const playgroundSchema = z.strictObject({
  model: path,
  adapters: z.array(z.strictObject(adapterShape)).max(4, 'must be 4 adapters at most').default([]),
  ...{ prompt, negativePrompt, seed, guidanceScale, steps, scheduler, width, height },
  numImages: whole(1, 16).default(1),
  device: targetOptions.device,
  dtype: targetOptions.dtype,
});

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
  const { model, adapters, numImages, device, dtype, ...rest } = checked.data;
  const pathOf = (place: string, value: string): string => {
    const fault = modelFault(place, value, folders);
    if (fault === undefined) return existsSync(value) ? resolve(value) : value;
    errors[place] = fault;
    return value;
  };
  const filesOf = (place: string, list: readonly string[]): string[] =>
    list.map((name) => {
      const file = gallery.fileOf(name);
      if (file === undefined) errors[place] = 'an image is not there any more; drop it again';
      return file ?? '';
    });
  const models: PipelineOptions = {
    model: pathOf('model', model),
    adapters: adapters.map(({ adapter, imageEncoder }, i) => ({
      adapter: pathOf(`adapters[${i}].adapter`, adapter),
      imageEncoder: pathOf(`adapters[${i}].imageEncoder`, imageEncoder),
    })),
    ...{ device, dtype },
  };
  const references = adapters.map(({ adapter: _, imageEncoder: __, images, masks, ...settings }, i) => ({
    ...settings,
    images: filesOf(`adapters[${i}].images`, images),
    ...(masks === undefined ? {} : { masks: filesOf(`adapters[${i}].masks`, masks) }),
  }));
  if (Object.keys(errors).length > 0) return { errors };
  const previewSteps = Math.max(1, Math.floor(rest.steps / 25));
  return { models, prompt: { ...rest, numImages, previewSteps, adapters: references } };
}

function placeOf(path: readonly PropertyKey[]): string {
  return path
    .map((part, i) => (typeof part === 'number' ? `[${part}]` : `${i === 0 ? '' : '.'}${String(part)}`))
    .join('');
}

/** What the file of an image says of how it was made. */
export interface PlaygroundSettings {
  /** For the page's form; null where the file has no settings of this package. */
  form: PlaygroundForm | null;
  /** What the form does not have, as names of options of `generate`: files that are elsewhere, and settings of a shell. */
  missing: string[];
}

const storedSchema = z.object({
  version: z.literal(1),
  options: z.record(z.string(), z.unknown()),
  files: z.record(z.string(), z.string()),
});
const known = new Set([...Object.keys(playgroundSchema.shape), ...Object.keys(adapterShape)]);
/** Those that a user has not set are stored too. */
const defaults: Readonly<Record<string, unknown>> = promptOptionsSchema.parse({});

/** Reads what `ip-adapter generate` and the playground write into images. @throws the system's error */
export async function readPlaygroundSettings(file: string, gallery: Names): Promise<PlaygroundSettings> {
  const nothing = { form: null, missing: [] };
  const text = await readSettingsText(file);
  if (text === undefined) return nothing;
  const { data } = storedSchema.safeParse(parsedJson(text));
  if (data === undefined) return nothing;
  const { adapters, ...options } = located(data.options, data.files) as Record<string, unknown>;
  const entries = Array.isArray(adapters) ? adapters.filter(isJsonObject) : options.adapter ? [options] : [];
  const missing = [options, ...entries]
    .flatMap((one) => Object.entries(one))
    .filter(([name, value]) => !known.has(name) && !isDefault(name, value))
    .map(([name]) => name);
  const namesOf = (place: string, files: unknown): string[] =>
    (Array.isArray(files) ? files : []).flatMap((one) => {
      // The gallery's names are those of their content.
      const own = isJsonObject(one) && typeof one.elsewhere === 'string' ? one.elsewhere : undefined;
      const name = typeof one === 'string' ? gallery.nameOf(one) : own && gallery.fileOf(own) && own;
      if (name === undefined) missing.push(place);
      return name ?? [];
    });
  const form = {
    ...pick(options, Object.keys(playgroundSchema.shape)),
    adapters: entries.map((entry) => ({
      ...pick(entry, Object.keys(adapterShape)),
      images: namesOf('images', entry.images),
      ...(entry.masks === undefined ? {} : { masks: namesOf('masks', entry.masks) }),
    })),
  };
  // A file may say anything.
  return playgroundSchema.safeParse(form).success
    ? { form: form as unknown as PlaygroundForm, missing: [...new Set(missing)] }
    : nothing;
}

/** Returns a value with the paths of files that are named without their folder, as far as this machine knows them. */
function located(value: unknown, files: Readonly<Record<string, string>>, place = ''): unknown {
  if (Array.isArray(value)) return value.map((one, i) => located(one, files, `${place}[${i}]`));
  if (!isJsonObject(value)) return value;
  if (typeof value.elsewhere === 'string') return knownPlace(files[place] ?? '') ?? value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [
      key,
      located(one, files, place === '' ? key : `${place}.${key}`),
    ]),
  );
}

function isDefault(name: string, value: unknown): boolean {
  return value === undefined || JSON.stringify(value) === JSON.stringify(defaults[name]);
}

function pick(options: Readonly<Record<string, unknown>>, keys: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(keys.flatMap((key) => (options[key] === undefined ? [] : [[key, options[key]]])));
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
