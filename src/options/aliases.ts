/**
 * @file Other names of options: those of the original's scripts (tencent-ailab/IP-Adapter, tutorial_train*.py) and those
 * of version 0.1. They are accepted wherever options are: as flags, in option files, in saved states, in calls. `--help`
 * does not list them.
 */
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';

/** What another name stands for. */
export interface Alias {
  /** The option's name. */
  option: string;
  /** Where the option is a list of fixed length: which element is meant. */
  element?: number;
  /** That list where nothing is given. */
  otherwise?: readonly unknown[];
  /** Where the name comes from. */
  from: 'the original' | '0.1';
}

/** By the other name, in camelCase. An alias acts in the commands that have its option. */
export const aliases: ReadonlyMap<string, Alias> = new Map<string, Alias>([
  ['pretrainedModelNameOrPath', { option: 'model', from: 'the original' }],
  ['imageEncoderPath', { option: 'imageEncoder', from: 'the original' }],
  ['pretrainedIpAdapterPath', { option: 'adapter', from: 'the original' }],
  ['dataJsonFile', { option: 'dataset', from: 'the original' }],
  ['dataRootPath', { option: 'datasetRoot', from: 'the original' }],
  ['trainBatchSize', { option: 'batchSize', from: 'the original' }],
  ['numTrainEpochs', { option: 'epochs', from: 'the original' }],
  ['maxTrainSteps', { option: 'maxSteps', from: '0.1' }],
  ['validationImage', { option: 'validationImages', from: '0.1' }],
  ['validationPrompt', { option: 'validationPrompts', from: '0.1' }],
  ['image', { option: 'images', from: '0.1' }],
  ['imageWeight', { option: 'weights', from: '0.1' }],
  // generate has one scale, which is its name there; evaluate takes several.
  ['scale', { option: 'scales', from: '0.1' }],
  ['start', { option: 'range', element: 0, otherwise: [0, 1], from: '0.1' }],
  ['end', { option: 'range', element: 1, otherwise: [0, 1], from: '0.1' }],
]);

/** The aliases of a command's options. */
export function aliasesOf(schema: z.ZodObject): [name: string, alias: Alias][] {
  const has = (key: string): boolean => Object.hasOwn(schema.shape, key);
  return [...aliases].filter(([name, { option }]) => has(option) && !has(name));
}

/**
 * The same options by their own names. An alias of an element makes a list whose other elements are undefined.
 * @param shownAs writes a name as the user did, for errors
 * @throws ConfigError where an alias and its option, or two aliases of one, are given
 */
export function resolveAliases(
  schema: z.ZodObject,
  options: Readonly<Record<string, unknown>>,
  shownAs: (name: string) => string = (name) => name,
): Record<string, unknown> {
  const known = new Map(aliasesOf(schema));
  const resolved = new Map<string, unknown>();
  const givenAs = new Map<string, string>();
  for (const [name, value] of Object.entries(options)) {
    const alias = known.get(name);
    if (value === undefined && alias !== undefined) continue;
    const { option, element } = alias ?? { option: name, element: undefined };
    // Elements of one list may come from an alias each.
    const slots =
      element === undefined ? [option, `${option}.0`, `${option}.1`] : [option, `${option}.${element}`];
    const other = slots.map((slot) => givenAs.get(slot)).find((found) => found !== undefined);
    if (value !== undefined && other !== undefined)
      throw new ConfigError(`${shownAs(other)} and ${shownAs(name)} are the same option; give one of them`);
    if (value !== undefined) givenAs.set(element === undefined ? option : `${option}.${element}`, name);
    if (element === undefined) {
      if (value !== undefined || !resolved.has(option)) resolved.set(option, value);
    } else {
      const list = (resolved.get(option) as unknown[] | undefined) ?? [undefined, undefined];
      list[element] = value;
      resolved.set(option, list);
    }
  }
  return Object.fromEntries(resolved);
}

/** Lists that aliases of elements made, with the elements that none of them gave. */
export function fillElements(options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const filled = { ...options };
  for (const { option, otherwise } of aliases.values()) {
    const list = filled[option];
    if (otherwise !== undefined && Array.isArray(list) && list.length === otherwise.length)
      filled[option] = list.map((element, i) => (element === undefined ? otherwise[i] : element));
  }
  return filled;
}
