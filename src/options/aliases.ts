/**
 * @file Aliases of options: the names in the original's scripts (tencent-ailab/IP-Adapter, tutorial_train*.py) and those
 * of version 0.1. They are accepted wherever options are: as flags, in option files, in saved states, in calls. `--help`
 * does not list them.
 */
import type { z } from 'zod';
import { ConfigError } from '../base/errors.js';

/** The meaning of an alias. */
export interface Alias {
  /** The option's name. */
  option: string;
  /** For an option that is a list of fixed length: the index of the element that the alias sets. */
  element?: number;
  /** The list whose other elements are used where they are not set. */
  defaults?: readonly unknown[];
  /** The origin of the alias. */
  from: 'the original' | '0.1' | 'web UIs';
}

/** All aliases, in camelCase. An alias applies to the commands that have its option. */
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
  ['lora', { option: 'loras', from: 'web UIs' }],
  ['imageWeight', { option: 'weights', from: '0.1' }],
  // An alias in evaluate only, which takes several scales. In generate, scale is an option itself.
  ['scale', { option: 'scales', from: '0.1' }],
  ['validationScale', { option: 'validationScales', from: '0.1' }],
  ['start', { option: 'range', element: 0, defaults: [0, 1], from: '0.1' }],
  ['end', { option: 'range', element: 1, defaults: [0, 1], from: '0.1' }],
]);

/** Returns the aliases of a command's options. */
export function aliasesOf(schema: z.ZodObject): [name: string, alias: Alias][] {
  const has = (key: string): boolean => Object.hasOwn(schema.shape, key);
  return [...aliases].filter(([name, { option }]) => has(option) && !has(name));
}

/** Returns the option that a name or an alias stands for, and the element of it where it stands for one. */
export function optionOf(schema: z.ZodObject, name: string): { option: string; element?: number } {
  const alias = Object.hasOwn(schema.shape, name) ? undefined : aliases.get(name);
  return alias !== undefined && Object.hasOwn(schema.shape, alias.option) ? alias : { option: name };
}

/** Returns whether two names set the same value, or one of them sets an element of the other's. */
export function areSame(schema: z.ZodObject, a: string, b: string): boolean {
  const [one, other] = [optionOf(schema, a), optionOf(schema, b)];
  if (one.option !== other.option) return false;
  return one.element === undefined || other.element === undefined || one.element === other.element;
}

/**
 * Returns the options without aliases. Aliases of elements become a list.
 * @param shownAs returns a name as the user wrote it, for errors
 * @throws ConfigError where one option is set by two names
 */
export function resolveAliases(
  schema: z.ZodObject,
  options: Readonly<Record<string, unknown>>,
  shownAs: (name: string) => string = (name) => name,
): Record<string, unknown> {
  const entries = Object.entries(options).filter(([, value]) => value !== undefined);
  const resolved = new Map<string, unknown>();
  for (const [i, [name, value]] of entries.entries()) {
    const other = entries.slice(0, i).find(([earlier]) => areSame(schema, earlier, name))?.[0];
    if (other !== undefined)
      throw new ConfigError(`${shownAs(other)} and ${shownAs(name)} are the same option; give one of them`);
    const { option, element } = optionOf(schema, name);
    if (element === undefined) resolved.set(option, value);
    else {
      const list = [...((resolved.get(option) ?? aliases.get(name)?.defaults ?? []) as unknown[])];
      list[element] = value;
      resolved.set(option, list);
    }
  }
  return Object.fromEntries(resolved);
}
