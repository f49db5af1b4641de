/** @file What the file of an image says of how it was made, for the playground's form. */
import { z } from 'zod';
import { isJsonObject, type JsonObject } from '../base/json.js';
import { knownPlace } from '../diffusion/known-places.js';
import { readSettingsText } from '../images/generated-file.js';
import { promptOptionsSchema } from '../options/generate-options.js';
import { type Names, type PlaygroundForm, restoredSchema } from './playground-settings.js';

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
const adapterKeys = Object.keys(restoredSchema.shape.adapters.unwrap().element.shape);
const formKeys = Object.keys(restoredSchema.shape);
const known = new Set([...formKeys, ...adapterKeys]);
/** Those that a user has not set are stored too. */
const defaults: Readonly<Record<string, unknown>> = promptOptionsSchema.parse({});

/** Reads what `ip-adapter generate` and the playground write into images. @throws the system's error */
export async function readPlaygroundSettings(file: string, gallery: Names): Promise<PlaygroundSettings> {
  const nothing = { form: null, missing: [] };
  const text = await readSettingsText(file);
  if (text === undefined) return nothing;
  const { data } = storedSchema.safeParse(parsedJson(text));
  if (data === undefined) return nothing;
  const { adapters, ...options } = located(data.options, data.files, gallery) as JsonObject;
  const entries = Array.isArray(adapters) ? adapters.filter(isJsonObject) : options.adapter ? [options] : [];
  const missing = [options, ...entries]
    .flatMap((one) => Object.entries(one))
    .filter(([name, value]) => !known.has(name) && !isDefault(name, value))
    .map(([name]) => name);
  const nameOf = (place: string, one: unknown): string | undefined => {
    const name = typeof one === 'string' ? gallery.nameOf(one) : undefined;
    if (name === undefined) missing.push(place);
    return name;
  };
  const pathOf = (place: string, one: unknown): string => {
    if (typeof one === 'string') return one;
    missing.push(place);
    return '';
  };
  const form = {
    ...pick(options, formKeys),
    model: pathOf('model', options.model),
    ...lorasOf(options, pathOf),
    ...sourcesOf(options, nameOf, pathOf, missing),
    adapters: entries.map((entry) => ({
      ...pick(entry, adapterKeys),
      adapter: pathOf('adapter', entry.adapter),
      imageEncoder: pathOf('imageEncoder', entry.imageEncoder),
      images: listOf(entry.images).flatMap((one) => nameOf('images', one) ?? []),
      ...(entry.masks !== undefined && {
        masks: listOf(entry.masks).flatMap((one) => nameOf('masks', one) ?? []),
      }),
    })),
  };
  // A file may say anything.
  const { success } = restoredSchema.safeParse(form);
  return success ? { form: form as unknown as PlaygroundForm, missing: [...new Set(missing)] } : nothing;
}

/** Returns the LoRAs that are known. */
function lorasOf(
  { loras }: JsonObject,
  pathOf: (place: string, one: unknown) => string,
): Pick<PlaygroundForm, 'loras'> {
  if (loras === undefined) return {};
  const all = listOf(loras).filter(isJsonObject);
  return {
    loras: all.flatMap(({ path, scale }) => {
      const file = pathOf('loras', path);
      return file === '' ? [] : { path: file, scale: scale as number };
    }),
  };
}

/** Returns the images that others are made from, without what needs one that is not known. */
function sourcesOf(
  { initImage, maskImage, strength, controlnet, controlImage }: JsonObject,
  nameOf: (place: string, one: unknown) => string | undefined,
  pathOf: (place: string, one: unknown) => string,
  missing: string[],
): JsonObject {
  const init = initImage === undefined ? undefined : nameOf('initImage', initImage);
  const mask = maskImage === undefined ? undefined : nameOf('maskImage', maskImage);
  if (initImage !== undefined && init === undefined)
    missing.push(...Object.entries({ maskImage: mask, strength }).flatMap(([key, one]) => (one ? key : [])));
  return {
    ...(init === undefined
      ? { initImage: init, maskImage: init, strength: init }
      : { initImage: init, maskImage: mask }),
    // A ControlNet stays where its image is not known, and the other way round: there is one for each.
    ...(controlnet !== undefined && {
      controlnet: listOf(controlnet).map((one) => pathOf('controlnet', one)),
      controlImage: listOf(controlImage).map((one) => nameOf('controlImage', one) ?? ''),
    }),
  };
}

function listOf(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

/** Returns a value with the paths of files that are named without their folder, as far as this machine knows them. */
function located(
  value: unknown,
  files: Readonly<Record<string, string>>,
  gallery: Names,
  place = '',
): unknown {
  if (Array.isArray(value)) return value.map((one, i) => located(one, files, gallery, `${place}[${i}]`));
  if (!isJsonObject(value)) return value;
  // The gallery's names are those of one content, of which a user may have another file.
  if (typeof value.elsewhere === 'string')
    return gallery.fileOf(value.elsewhere) ?? knownPlace(files[place] ?? '') ?? value;
  return Object.fromEntries(
    Object.entries(value).map(([key, one]) => [
      key,
      located(one, files, gallery, place === '' ? key : `${place}.${key}`),
    ]),
  );
}

function isDefault(name: string, value: unknown): boolean {
  return value === undefined || JSON.stringify(value) === JSON.stringify(defaults[name]);
}

function pick(options: Readonly<JsonObject>, keys: readonly string[]): JsonObject {
  return Object.fromEntries(keys.flatMap((key) => (options[key] === undefined ? [] : [[key, options[key]]])));
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
