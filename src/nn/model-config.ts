/** @file Reads the keys of a model's config.json strictly: an unknown key or an unsupported value is an error. */
import { ConfigError, shown } from '../base/errors.js';
import { isJsonObject, type JsonObject } from '../base/json.js';

/** Larger than in any model, and small enough that a weight's size in bytes does not overflow. */
const MAX_SIZE = 2 ** 16;
/** All layers are built before the weights are read, so their number must be limited. */
export const MAX_LAYERS = 128;
const MAX_BLOCKS = 32;

/** Reads the keys of one config.json; `finish` refuses keys that were neither read nor ignored. */
export class ConfigReader {
  readonly #values: JsonObject;
  readonly #where: string;
  readonly #knownKeys = new Set<string>();

  /** @param where the file or other origin, for errors */
  constructor(json: unknown, where: string) {
    if (!isJsonObject(json))
      throw new ConfigError(`Expected a JSON object in ${where} but received ${shown(json)}`);
    this.#values = json;
    this.#where = where;
  }

  /** Reads a whole number above 0. Without a fallback the key is required. */
  count(key: string, fallback?: number, max = MAX_SIZE): number {
    return this.#read(key, fallback, isCount(max), `a whole number from 1 to ${max}`);
  }

  number(key: string, fallback: number): number {
    return this.#read(key, fallback, isNumber, 'a number');
  }

  /** Reads true or false; null, which published files contain too, means false. */
  flag(key: string, fallback: boolean): boolean {
    const fits = (value: unknown): value is boolean | null => isFlag(value) || value === null;
    return this.#read<boolean | null>(key, fallback, fits, 'true or false') ?? false;
  }

  oneOf<const T extends string | number | null>(key: string, fallback: NoInfer<T>, allowed: readonly T[]): T {
    const isAllowed = (value: unknown): value is T => allowed.some((choice) => choice === value);
    return this.#read(key, fallback, isAllowed, allowed.map((choice) => JSON.stringify(choice)).join(' or '));
  }

  /** Reads a list of `length` names (default: any length), each one of `allowed`. */
  names<const T extends string>(
    key: string,
    fallback: readonly T[],
    allowed: readonly T[],
    length?: number,
  ): readonly T[] {
    const fits = (value: unknown): value is T[] =>
      isListOf(value, (item): item is T => allowed.some((name) => name === item), length);
    return this.#read(
      key,
      fallback,
      fits,
      `a list of ${length ?? 'one or more'}, each ${allowed.map((name) => JSON.stringify(name)).join(' or ')}`,
    );
  }

  counts(key: string, fallback: readonly number[]): readonly number[] {
    const fits = (value: unknown): value is number[] =>
      isListOf(value, isCount(MAX_SIZE)) && value.length <= MAX_BLOCKS;
    return this.#read(
      key,
      fallback,
      fits,
      `a list of at most ${MAX_BLOCKS} whole numbers from 1 to ${MAX_SIZE}`,
    );
  }

  /** Reads one whole number for all blocks, or a list with one for each. */
  countPerBlock(key: string, fallback: number, blocks: number, max = MAX_SIZE): readonly number[] {
    return this.#perBlock(key, fallback, blocks, isCount(max), `a whole number from 1 to ${max}`);
  }

  flagPerBlock(key: string, fallback: boolean, blocks: number): readonly boolean[] {
    return this.#perBlock(key, fallback, blocks, isFlag, 'true or false');
  }

  /** Requires keys that change the computation to have the only supported value, or to be absent. */
  only(supported: Record<string, string | number | boolean | null>): void {
    for (const [key, value] of Object.entries(supported)) {
      const fits = (received: unknown): received is typeof value =>
        received === value || (received === null && value === false);
      this.#read(key, value, fits, JSON.stringify(value));
    }
  }

  /** Ignores keys that do not affect the computation of a frozen model. */
  ignore(...keys: string[]): void {
    for (const key of keys) this.#knownKeys.add(key);
  }

  /** Checks a condition on a key. @throws ConfigError unless `holds`; `expected` describes valid values */
  require(holds: boolean, key: string, expected: string): void {
    if (!holds) this.#fail(key, expected);
  }

  /** Checks that no key is unknown; null values are allowed, since upstream writes them for unused keys. @throws ConfigError */
  finish(): void {
    for (const [key, value] of Object.entries(this.#values))
      if (!this.#knownKeys.has(key) && !key.startsWith('_') && value !== null)
        throw new ConfigError(
          `Expected only supported keys in ${this.#where} but received ${key} = ${shown(value)}, which could change the computation; supported keys are ${[...this.#knownKeys].sort().join(', ')}`,
        );
  }

  #read<T>(key: string, fallback: T | undefined, fits: (value: unknown) => value is T, expected: string): T {
    this.#knownKeys.add(key);
    const value = this.#values[key];
    if (value === undefined && fallback !== undefined) return fallback;
    return fits(value) ? value : this.#fail(key, expected);
  }

  #perBlock<T>(
    key: string,
    fallback: T,
    blocks: number,
    fits: (value: unknown) => value is T,
    what: string,
  ): readonly T[] {
    const fitsAll = (value: unknown): value is T | T[] => fits(value) || isListOf(value, fits, blocks);
    const value = this.#read<T | readonly T[]>(
      key,
      fallback,
      fitsAll,
      `${what}, or a list of ${blocks} of them`,
    );
    return Array.isArray(value) ? value : Array.from({ length: blocks }, () => value as T);
  }

  #fail(key: string, expected: string): never {
    throw new ConfigError(
      `Expected ${expected} for ${key} in ${this.#where} but received ${shown(this.#values[key])}`,
    );
  }
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number' && Number.isFinite(value);
}

function isCount(max: number): (value: unknown) => value is number {
  return (value): value is number =>
    Number.isInteger(value) && (value as number) > 0 && (value as number) <= max;
}

function isFlag(value: unknown): value is boolean {
  return typeof value === 'boolean';
}

function isListOf<T>(value: unknown, fits: (item: unknown) => item is T, length?: number): value is T[] {
  return (
    Array.isArray(value) && value.length === (length ?? value.length) && value.length > 0 && value.every(fits)
  );
}
