/** @file Checks the options of a training that the page starts, and of a dataset check before it. */
import { join, resolve } from 'node:path';
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { isRemote } from '../data/remote-names.js';
import { resolveAliases } from '../options/aliases.js';
import { checkOptionsSchema } from '../options/check-options.js';
import { camelKeys } from '../options/options-file.js';
import { type PresetName, presetBeside, presetNames } from '../options/presets.js';
import { effectiveOptions, trainOptionsSchema } from '../options/train-options.js';
import type { CheckOptions } from '../options/train-types.js';
import { folderFault, modelFault, type StudioFolders } from './folders.js';

const runName = /^[\w][\w. -]{0,99}$/;

/** Rows and cells that a check shows as the encoders see them. */
const SHOWN_ROWS = 8;
const SHOWN_CELLS = 48;

/** Options that name a model: in the folders of models, or on the Hub. */
const modelOptions = [
  ...(['model', 'imageEncoder', 'adapter'] as const),
  ...(['metricEncoder', 'metricTextEncoder', 'dinoEncoder'] as const),
];

/** What is wrong with the options of a new run, by option. */
export type FieldErrors = Record<string, string>;

/** What a form sends. */
export interface GivenRun {
  /** In snake_case or camelCase. */
  options?: unknown;
  preset?: unknown;
}

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
 */
export function checkNewRun(
  name: string,
  given: GivenRun,
  folders: StudioFolders,
): { options: Record<string, unknown> } | { errors: FieldErrors } {
  const written = optionsOf(given);
  if ('errors' in written) return written;
  const outputDir = join(folders.runs, name);
  const parsed = trainOptionsSchema.safeParse({ ...written.options, outputDir });
  if (!parsed.success) return { errors: faultsOf(parsed.error) };
  const options = parsed.data;
  const errors = pathFaults(options, folders);
  const datasets = [...folders.datasets, folders.runs];
  const note = (key: string, path: string, roots: readonly string[], flag: string): void => {
    const fault = folderFault(key, path, roots, flag);
    if (fault !== undefined) errors[key] = fault;
  };
  for (const path of options.validationImages)
    note('validationImages', path, [...datasets, ...folders.models], '--datasets');
  note('loggingDir', resolve(outputDir, options.loggingDir), [folders.runs], '--runs');
  if (options.cacheDir !== undefined) note('cacheDir', options.cacheDir, [folders.runs], '--runs');
  if (options.resume !== undefined) errors.resume = 'a new run does not resume';
  if (given.preset === 'fine-tune' && options.adapter === undefined)
    errors.adapter = 'the preset fine-tune trains an adapter further: name it, or take the preset small';
  if (Object.keys(errors).length > 0) return { errors };
  const absolute = {
    ...effectiveOptions(options),
    dataset: options.dataset.map(absoluteOf),
    ...(options.datasetRoot ? { datasetRoot: resolve(options.datasetRoot) } : {}),
    ...(options.validationDataset ? { validationDataset: options.validationDataset.map(absoluteOf) } : {}),
    validationImages: options.validationImages.map((one) => resolve(one)),
  };
  return { options: absolute };
}

/**
 * Returns what a dataset check takes of the options of a new run, which may lack the others; or what is wrong with them.
 * Some rows are shown if there is an image encoder.
 */
export function checkOfNewRun(
  given: GivenRun,
  folders: StudioFolders,
): { options: CheckOptions } | { errors: FieldErrors } {
  const written = optionsOf(given);
  if ('errors' in written) return written;
  const known = Object.entries(written.options).filter(
    ([key]) => key !== 'show' && Object.hasOwn(checkOptionsSchema.shape, key),
  );
  const parsed = checkOptionsSchema.safeParse(Object.fromEntries(known));
  if (!parsed.success) return { errors: faultsOf(parsed.error) };
  const options = parsed.data;
  const errors = pathFaults(options, folders);
  if (Object.keys(errors).length > 0) return { errors };
  const rows = Math.max(1, Math.min(SHOWN_ROWS, Math.floor(SHOWN_CELLS / (1 + options.referencesPerRow))));
  return {
    options: {
      ...options,
      dataset: options.dataset.map(absoluteOf),
      ...(options.imageEncoder === undefined ? {} : { show: rows }),
    },
  };
}

/** Returns the options of a form by their names, with those of its preset. */
function optionsOf({
  options,
  preset,
}: GivenRun): { options: Record<string, unknown> } | { errors: FieldErrors } {
  if (typeof options !== 'object' || options === null || Array.isArray(options))
    return { errors: { '': 'the options must be an object' } };
  const users = resolveAliases(trainOptionsSchema, camelKeys(options) as Record<string, unknown>);
  if (preset === undefined || preset === '') return { options: users };
  if (!presetNames.includes(preset as PresetName))
    return { errors: { preset: `must be one of ${presetNames.join(', ')}` } };
  return { options: { ...presetBeside(preset as PresetName, users).set, ...users } };
}

function faultsOf(error: z.ZodError): FieldErrors {
  const errors: FieldErrors = {};
  for (const { path, message, code, ...issue } of error.issues) {
    const isUnknown = code === 'unrecognized_keys';
    const keys = isUnknown ? (issue as unknown as { keys: string[] }).keys : [String(path[0] ?? '')];
    for (const key of keys) errors[key] ??= isUnknown ? 'there is no such option' : message;
  }
  return errors;
}

/** Returns which models and datasets are not in the folders of the studio. */
function pathFaults(
  options: Partial<z.output<typeof trainOptionsSchema>>,
  folders: StudioFolders,
): FieldErrors {
  const errors: FieldErrors = {};
  const note = (key: string, fault: string | undefined): void => {
    if (fault !== undefined) errors[key] = fault;
  };
  for (const key of modelOptions) {
    const value = options[key];
    if (value !== undefined) note(key, modelFault(key, value, folders));
  }
  const roots = [...folders.datasets, folders.runs];
  for (const key of ['dataset', 'validationDataset'] as const)
    for (const path of options[key] ?? [])
      if (!isRemote(path)) note(key, folderFault(key, path, roots, '--datasets'));
  if (options.datasetRoot)
    note('datasetRoot', folderFault('datasetRoot', options.datasetRoot, roots, '--datasets'));
  return errors;
}

function absoluteOf(path: string): string {
  return isRemote(path) ? path : resolve(path);
}
