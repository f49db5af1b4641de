/** @file Checks the options of a training that the page starts, and describes them for its form. */
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { isRemote } from '../data/remote-names.js';
import { resolveAliases } from '../options/aliases.js';
import { camelKeys } from '../options/options-file.js';
import { effectiveOptions, trainOptionsSchema } from '../options/train-options.js';
import { folderFault, modelFault, type StudioFolders } from './folders.js';

const runName = /^[\w][\w. -]{0,99}$/;

/** Options that name a model: in the folders of models, or on the Hub. */
const modelOptions = [
  ...(['model', 'imageEncoder', 'adapter'] as const),
  ...(['metricEncoder', 'metricTextEncoder', 'dinoEncoder'] as const),
];

/** What is wrong with the options of a new run, by option. */
export type FieldErrors = Record<string, string>;

/** Returns the name of a run if it can be one. @throws ConfigError */
export function checkRunName(name: unknown): string {
  if (typeof name !== 'string' || !runName.test(name))
    throw new ConfigError(
      'name must begin with a letter or digit, and have only letters, digits, spaces, - . _',
    );
  return name;
}

/**
 * Returns options with every default, paths absolute, all within the folders of the studio; or what is wrong with them.
 * @param given in snake_case or camelCase
 */
export function checkNewRun(
  name: string,
  given: unknown,
  folders: StudioFolders,
): { options: Record<string, unknown> } | { errors: FieldErrors } {
  if (typeof given !== 'object' || given === null || Array.isArray(given))
    return { errors: { '': 'the options must be an object' } };
  const outputDir = join(folders.runs, name);
  const parsed = trainOptionsSchema.safeParse({
    ...resolveAliases(trainOptionsSchema, camelKeys(given) as Record<string, unknown>),
    outputDir,
  });
  if (!parsed.success) {
    const errors: FieldErrors = {};
    for (const { path, message, code, ...issue } of parsed.error.issues) {
      const keys =
        code === 'unrecognized_keys' ? (issue as { keys: string[] }).keys : [String(path[0] ?? '')];
      for (const key of keys)
        errors[key] ??= code === 'unrecognized_keys' ? 'there is no such option' : message;
    }
    return { errors };
  }
  const options = parsed.data;
  const errors: FieldErrors = {};
  const note = (key: string, fault: string | undefined): void => {
    if (fault !== undefined) errors[key] = fault;
  };
  const check = (key: string, path: string, roots: readonly string[], flag: string): void =>
    note(key, folderFault(key, path, roots, flag));
  for (const key of modelOptions) {
    const value = options[key];
    if (value !== undefined) note(key, modelFault(key, value, folders));
  }
  const datasets = [...folders.datasets, folders.runs];
  for (const key of ['dataset', 'validationDataset'] as const)
    for (const path of options[key] ?? []) if (!isRemote(path)) check(key, path, datasets, '--datasets');
  if (options.datasetRoot) check('datasetRoot', options.datasetRoot, datasets, '--datasets');
  for (const path of options.validationImages)
    check('validationImages', path, [...datasets, ...folders.models], '--datasets');
  check('loggingDir', resolve(outputDir, options.loggingDir), [folders.runs], '--runs');
  if (options.cacheDir !== undefined) check('cacheDir', options.cacheDir, [folders.runs], '--runs');
  if (options.resume !== undefined) errors.resume = 'a new run does not resume';
  if (Object.keys(errors).length > 0) return { errors };
  const absoluteOf = (path: string): string => (isRemote(path) ? path : resolve(path));
  const absolute = {
    ...effectiveOptions(options),
    dataset: options.dataset.map(absoluteOf),
    ...(options.datasetRoot ? { datasetRoot: resolve(options.datasetRoot) } : {}),
    ...(options.validationDataset ? { validationDataset: options.validationDataset.map(absoluteOf) } : {}),
    validationImages: options.validationImages.map((one) => resolve(one)),
  };
  return { options: absolute };
}

/** The options of a training, for a form. */
export interface OptionField {
  name: string;
  kind: 'text' | 'number' | 'switch' | 'choice' | 'list';
  choices?: string[];
  fallback?: unknown;
  isRequired: boolean;
  help: string;
}

interface JsonSchema {
  type?: string;
  enum?: string[];
  anyOf?: JsonSchema[];
  items?: JsonSchema;
  default?: unknown;
  description?: string;
}

/** Options that the studio sets itself. */
const own = new Set(['outputDir', 'resume', 'requests']);

export function trainFields(): OptionField[] {
  const schema = z.toJSONSchema(trainOptionsSchema, { io: 'input', unrepresentable: 'any' });
  const required = new Set(schema.required);
  return Object.entries(schema.properties as Record<string, JsonSchema>)
    .filter(([name]) => !own.has(name))
    .map(([name, one]) => {
      const types = [one, ...(one.anyOf ?? [])];
      const is = (type: string): boolean => types.some((some) => some.type === type);
      const kind = one.enum
        ? 'choice'
        : is('array')
          ? 'list'
          : is('boolean')
            ? 'switch'
            : is('number') || is('integer')
              ? 'number'
              : 'text';
      return {
        ...{ name, kind, isRequired: required.has(name), help: one.description ?? '' },
        ...(one.enum ? { choices: one.enum } : {}),
        ...(one.default === undefined ? {} : { fallback: one.default }),
      };
    });
}
