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
  /** That list where nothing else is given. */
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

/** What a name stands for: an option of the schema, or an element of one. */
export function optionOf(schema: z.ZodObject, name: string): { option: string; element?: number } {
  const alias = Object.hasOwn(schema.shape, name) ? undefined : aliases.get(name);
  return alias !== undefined && Object.hasOwn(schema.shape, alias.option) ? alias : { option: name };
}

/** Whether two names stand for the same value, or one for a part of the other's. */
export function areSame(schema: z.ZodObject, a: string, b: string): boolean {
  const [one, other] = [optionOf(schema, a), optionOf(schema, b)];
  if (one.option !== other.option) return false;
  return one.element === undefined || other.element === undefined || one.element === other.element;
}

/**
 * The options by their own names. Aliases of elements make a list.
 * @param shownAs writes a name as the user did, for errors
 * @throws ConfigError where two names of one option are given
 */
export function resolveAliases(
  schema: z.ZodObject,
  options: Readonly<Record<string, unknown>>,
  shownAs: (name: string) => string = (name) => name,
): Record<string, unknown> {
  const given = Object.entries(options).filter(([, value]) => value !== undefined);
  const resolved = new Map<string, unknown>();
  for (const [i, [name, value]] of given.entries()) {
    const other = given.slice(0, i).find(([earlier]) => areSame(schema, earlier, name))?.[0];
    if (other !== undefined)
      throw new ConfigError(`${shownAs(other)} and ${shownAs(name)} are the same option; give one of them`);
    const { option, element } = optionOf(schema, name);
    if (element === undefined) resolved.set(option, value);
    else {
      const list = [...((resolved.get(option) ?? aliases.get(name)?.otherwise ?? []) as unknown[])];
      list[element] = value;
      resolved.set(option, list);
    }
  }
  return Object.fromEntries(resolved);
}
