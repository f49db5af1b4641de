/** @file Reading a model's config.json: every key is known and checked, so that none that matters is overlooked. */
import { ConfigError, shown } from '../base/errors.js';

/** Wider than any model; the product of the sizes of a weight stays a number of bytes that LibTorch can hold. */
const MAX_SIZE = 2 ** 16;
/** Every layer is built before its weights are looked for. */
export const MAX_LAYERS = 128;
const MAX_BLOCKS = 32;

/** Reads the keys of one config.json; `finish` refuses the keys that nobody read. */
export class ConfigReader {
  readonly #values: Record<string, unknown>;
  readonly #where: string;
  readonly #known = new Set<string>();

  /** @param where the file or other origin, for errors */
  constructor(json: unknown, where: string) {
    if (json === null || typeof json !== 'object' || Array.isArray(json))
      throw new ConfigError(`Expected a JSON object in ${where} but received ${shown(json)}`);
    this.#values = json as Record<string, unknown>;
    this.#where = where;
  }

  /** A whole number above zero. Without a fallback the key is required. */
  count(key: string, fallback?: number, max = MAX_SIZE): number {
    return this.#read(key, fallback, isCount(max), `a whole number from 1 to ${max}`);
  }

  number(key: string, fallback: number): number {
    return this.#read(key, fallback, isNumber, 'a number');
  }

  /** True or false; published files have null, too, where false is meant. */
  flag(key: string, fallback: boolean): boolean {
    const fits = (value: unknown): value is boolean | null => isFlag(value) || value === null;
    return this.#read<boolean | null>(key, fallback, fits, 'true or false') ?? false;
  }

  oneOf<const T extends string | number | null>(key: string, fallback: NoInfer<T>, allowed: readonly T[]): T {
    const isAllowed = (value: unknown): value is T => allowed.some((one) => one === value);
    return this.#read(key, fallback, isAllowed, allowed.map((one) => JSON.stringify(one)).join(' or '));
  }

  /** A list of `length` names (of any length where undefined), each one of `allowed`. */
  names<const T extends string>(
    key: string,
    fallback: readonly T[],
    allowed: readonly T[],
    length?: number,
  ): readonly T[] {
    const fits = (value: unknown): value is T[] =>
      isListOf(value, (one): one is T => allowed.some((name) => name === one), length);
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

  /** One whole number for every block, or a list with one for each. */
  countPerBlock(key: string, fallback: number, blocks: number, max = MAX_SIZE): readonly number[] {
    return this.#perBlock(key, fallback, blocks, isCount(max), `a whole number from 1 to ${max}`);
  }

  flagPerBlock(key: string, fallback: boolean, blocks: number): readonly boolean[] {
    return this.#perBlock(key, fallback, blocks, isFlag, 'true or false');
  }

  /** Keys that would change the computation, and whose one supported value is given. A missing key has that value. */
  only(supported: Record<string, string | number | boolean | null>): void {
    for (const [key, value] of Object.entries(supported)) {
      const fits = (received: unknown): received is typeof value =>
        received === value || (received === null && value === false);
      this.#read(key, value, fits, JSON.stringify(value));
    }
  }

  /** Keys that have no part in the computation of a frozen model. */
  ignore(...keys: string[]): void {
    for (const key of keys) this.#known.add(key);
  }

  /** @throws ConfigError unless `holds`; `expected` says what should. */
  require(holds: boolean, key: string, expected: string): void {
    if (!holds) this.#fail(key, expected);
  }

  /** @throws ConfigError for a key that was neither read nor ignored. Null is how upstream writes 'not used'. */
  finish(): void {
    for (const [key, value] of Object.entries(this.#values))
      if (!this.#known.has(key) && !key.startsWith('_') && value !== null)
        throw new ConfigError(
          `Expected a known key in ${this.#where} but received ${key} = ${shown(value)}, which could change what the model computes; supported are ${[...this.#known].sort().join(', ')}`,
        );
  }

  #read<T>(key: string, fallback: T | undefined, fits: (value: unknown) => value is T, expected: string): T {
    this.#known.add(key);
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

function isListOf<T>(value: unknown, fits: (one: unknown) => one is T, length?: number): value is T[] {
  return (
    Array.isArray(value) && value.length === (length ?? value.length) && value.length > 0 && value.every(fits)
  );
}
