/**
 * @file The settings of a generated image as JSON in its file, with all that repeats it bit for bit: the options, the image's
 * place in its batch, and fingerprints of the files that the options name. Others may read it: it has no absolute path.
 */
import { statSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { isAbsolute } from 'node:path';
import { z } from 'zod';
import type { OpenedAdapter } from '../adapters/open-adapter.js';
import { ConfigError } from '../base/errors.js';
import { isJsonObject, type JsonObject } from '../base/json.js';
import { knownPlace, rememberPlaces } from '../diffusion/known-places.js';
import { fingerprintOfNamed } from '../diffusion/named-fingerprint.js';
import { readSettingsText } from '../images/generated-file.js';
import {
  adapterKeys,
  generateOptionsSchema,
  type ResolvedDrawOptions,
  type ResolvedJob,
  referenceKeys,
} from '../options/generate-options.js';
import type { ReferenceSettings } from '../options/reference-types.js';
import { torchVersion } from '../torch/index.js';
import type { ResolvedPipelineOptions } from './pipeline-models.js';
import { shownPath } from './shown-path.js';
import { without } from './without.js';

/** What the file of an image stores. */
export interface StoredSettings {
  /** The version of this form. */
  version: 1;
  /**
   * Options of `generate` for this image alone. An image that was in memory is `{ inMemory: '640x480' }`, and a file that was
   * given by an absolute path is `{ elsewhere: 'cat.png' }`.
   */
  options: JsonObject;
  /** The image's row in its batch, and the batch's size: products of another size are rounded differently. */
  batch: [row: number, size: number];
  /** Fingerprints by the option's place, such as `adapters[0].images[1]`; of a name on the Hub with `hub:` before it. */
  files: Record<string, string>;
  /** What else decides the last bits. */
  environment: Record<string, string | number>;
}

/**
 * Returns the options of `generate` that describe one image of a pipeline.
 * @param opened the pipeline's adapters
 */
export function optionsOf(
  { prompt, seed, imagePrompts }: ResolvedJob,
  draw: ResolvedDrawOptions,
  references: readonly ReferenceSettings[],
  { adapters, ...models }: ResolvedPipelineOptions,
  opened: readonly Pick<OpenedAdapter, 'file'>[],
): object {
  const entries = adapters.map(({ adapter, imageEncoder }, i) => {
    const list = imagePrompts[i] ?? [];
    const weights = list.map(({ weight }) => weight);
    return {
      ...references[i],
      // Of a run's output folder, the checkpoint that was taken.
      adapter: statSync(adapter, { throwIfNoEntry: false })?.isDirectory() ? opened[i]?.file : adapter,
      imageEncoder,
      images: list.map(({ image }) => image),
      weights: weights.every((weight) => weight === 1) ? undefined : weights,
    };
  });
  return {
    ...without(models, adapterKeys),
    ...without(draw, [...referenceKeys, 'adapters', 'batchSize', 'previewSteps']),
    ...{ prompt, seed },
    ...(entries.length === 1 ? entries[0] : entries.length === 0 ? {} : { adapters: entries }),
  };
}

/** Returns the settings of an image as JSON, in ASCII. Remembers where files are whose folders it does not tell. */
export function storedSettings(
  options: object,
  batch: [row: number, size: number],
  { device, dtype }: { device: string; dtype: string },
): string {
  const plain = sorted(JSON.parse(JSON.stringify(options, withoutBytes))) as JsonObject;
  const paths = pathsIn(plain);
  const files = new Map(
    paths.flatMap(([place, path]): [string, string][] => {
      const found = fingerprintOfNamed(path);
      return found === undefined ? [] : [[place, found]];
    }),
  );
  const absolute = new Map(paths.filter(([, path]) => isAbsolute(path)));
  rememberPlaces(
    new Map(
      Array.from(files).flatMap(([place, print]) =>
        absolute.has(place) ? [[print, absolute.get(place) as string]] : [],
      ),
    ),
  );
  const stored: StoredSettings = {
    version: 1,
    options: replaced(plain, (place, value) =>
      absolute.has(place) ? { elsewhere: shownPath(absolute.get(place) as string) } : value,
    ) as JsonObject,
    batch,
    files: Object.fromEntries(files),
    environment: environmentOf({ device, dtype, threads: plain.threads }),
  };
  return JSON.stringify(stored).replace(
    /[^ -~]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/**
 * Reads the settings of an image file that this package has written.
 * @throws ConfigError where there are none
 */
export async function readStoredSettings(file: string): Promise<StoredSettings> {
  let text: string | undefined;
  try {
    text = await readSettingsText(file);
  } catch (cause) {
    throw new ConfigError(`Expected an image at ${file} but it cannot be read: ${(cause as Error).message}`, {
      cause,
    });
  }
  if (text === undefined)
    throw new ConfigError(
      `Expected an image with the settings of ip-adapter in ${file} but it has none: it was written by another program, or a program has removed them`,
    );
  const parsed = storedSchema.safeParse(parse(text));
  if (parsed.success) return parsed.data as StoredSettings;
  throw new ConfigError(
    `Expected settings of ip-adapter in ${file} but they are damaged or of another version (${text.slice(0, 80)})`,
  );
}

const storedSchema = z.object({
  version: z.literal(1),
  options: z.record(z.string(), z.unknown()),
  batch: z.tuple([z.int().min(0), z.int().min(1)]).refine(([row, size]) => row < size),
  files: z.record(z.string(), z.string()),
  environment: z.record(z.string(), z.union([z.string(), z.number()])),
});

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Returns the options, with the paths of files elsewhere that are known on this machine. */
export function locatedOptions({ options, files }: StoredSettings): JsonObject {
  return replaced(options, (place, value) =>
    isElsewhere(value) ? (knownPlace(files[place] ?? '') ?? value) : value,
  ) as JsonObject;
}

/**
 * Compares the files that options name with those that made an image, and the machine with that one.
 * @param options the stored ones, with changes
 * @param nameOf shows an option's name to the user
 * @returns a warning for each difference
 * @throws ConfigError naming what is missing
 */
export function compareFiles(
  { options: stored, files, environment }: StoredSettings,
  options: JsonObject,
  nameOf: (place: string) => string,
): string[] {
  const before = new Map(pathsIn(stored));
  const missing: string[] = [];
  const changed: string[] = [];
  for (const [place, path] of pathsIn(options)) {
    const fingerprint = files[place];
    if (fingerprint === undefined) continue;
    const found = fingerprintOfNamed(path);
    if (found === fingerprint || found === `hub:${fingerprint}` || `hub:${found}` === fingerprint) continue;
    if (found !== undefined) changed.push(`${nameOf(place)} (${path})`);
    else if (path === before.get(place) && !fingerprint.startsWith('hub:'))
      missing.push(`${nameOf(place)} (${path})`);
  }
  const unknown = (placesIn(options, isElsewhere) as [string, { elsewhere: string }][]).map(
    ([place, { elsewhere }]) => `${nameOf(place)} (${elsewhere})`,
  );
  const inMemory = placesIn(options, (value) => isJsonObject(value) && 'inMemory' in value);
  if (inMemory.length > 0)
    throw new ConfigError(
      `The image was made with images in memory, which it does not contain; give ${inMemory.map(([place]) => nameOf(place)).join(', ')}`,
    );
  const faults = [
    ...(missing.length === 0 ? [] : [`files that are not there any more: ${missing.join(', ')}`]),
    ...(unknown.length === 0
      ? []
      : [`files that were elsewhere, and this machine does not know where: ${unknown.join(', ')}`]),
  ];
  if (faults.length > 0)
    throw new ConfigError(
      `The image was made with ${faults.join('; with ')}; give their new places by the same options`,
    );
  const now = environmentOf({ ...environment, threads: options.threads ?? environment.threads });
  const others = Object.entries(environment).filter(([key, value]) => now[key] !== value);
  return [
    ...(changed.length === 0
      ? []
      : [`Changed since the image was made, so that the result will differ: ${changed.join(', ')}`]),
    ...(others.length === 0
      ? []
      : [
          `The image was made with ${others.map(([key, value]) => `${key} ${value}`).join(', ')}, and this is ${others.map(([key]) => now[key]).join(', ')}: the result may differ by rounding`,
        ]),
  ];
}

function environmentOf({ device, dtype, threads }: Record<string, unknown>): Record<string, string | number> {
  return {
    device: device as string,
    dtype: dtype as string,
    LibTorch: torchVersion(),
    processor: cpus()[0]?.model.trim() ?? '',
    threads: typeof threads === 'number' ? threads : availableParallelism(),
  };
}

function withoutBytes(this: unknown, _key: string, value: unknown): unknown {
  const { data, width, height } = (value ?? {}) as { data?: unknown; width?: unknown; height?: unknown };
  return data instanceof Uint8Array ? { inMemory: `${width}x${height}` } : value;
}

/** Returns the value with the keys of objects in order, so that the same settings are the same text. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, one]) => [key, sorted(one)]),
  );
}

function isElsewhere(value: unknown): value is { elsewhere: string } {
  return isJsonObject(value) && typeof value.elsewhere === 'string';
}

/** Returns the value with everything in it that `replace` replaces, from the outside in. */
function replaced(value: unknown, replace: (place: string, value: unknown) => unknown, place = ''): unknown {
  const other = replace(place, value);
  if (other !== value) return other;
  if (Array.isArray(value)) return value.map((item, i) => replaced(item, replace, `${place}[${i}]`));
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]) => [
      key,
      replaced(item, replace, place === '' ? key : `${place}.${key}`),
    ]),
  );
}

/** Returns the places and values of all options that may be paths. */
function pathsIn(options: JsonObject): [place: string, path: string][] {
  return placesIn(options, (value) => typeof value === 'string' && value !== '') as [string, string][];
}

function placesIn(value: unknown, isWanted: (value: unknown) => boolean, place = ''): [string, unknown][] {
  if (isWanted(value)) return [[place, value]];
  if (Array.isArray(value)) return value.flatMap((item, i) => placesIn(item, isWanted, `${place}[${i}]`));
  if (!isJsonObject(value)) return [];
  return Object.entries(value).flatMap(([key, item]) =>
    notPaths.has(key) ? [] : placesIn(item, isWanted, place === '' ? key : `${place}.${key}`),
  );
}

/** The options whose text is no path. */
const notPaths: ReadonlySet<string> = new Set([
  ...['prompt', 'negativePrompt', 'device'],
  ...namesOfChoices(z.toJSONSchema(generateOptionsSchema, { io: 'input', unrepresentable: 'any' })),
]);

function namesOfChoices(schema: unknown): string[] {
  if (Array.isArray(schema)) return schema.flatMap(namesOfChoices);
  if (!isJsonObject(schema)) return [];
  const properties = isJsonObject(schema.properties) ? Object.entries(schema.properties) : [];
  const named = properties.filter(([, one]) => isJsonObject(one) && 'enum' in one).map(([key]) => key);
  return [...named, ...Object.values(schema).flatMap(namesOfChoices)];
}
