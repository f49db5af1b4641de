/** @file The values of a `scheduler_config.json`, checked one key at a time: only the keys that somebody reads. */
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { ConfigError, shown } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';

/** The keys and values of a file. Null is how diffusers writes 'not given'. */
export class ConfigValues {
  readonly #file: string;
  readonly #json: Record<string, unknown>;
  readonly #unset: ReadonlySet<unknown>;

  private constructor(json: Record<string, unknown>, file: string) {
    this.#file = file;
    this.#json = json;
    // diffusers lists here the keys that nobody set: another class than the file's then has its own defaults.
    this.#unset = new Set(Array.isArray(json._use_default_values) ? json._use_default_values : []);
  }

  /**
   * @param path a `scheduler_config.json`, or the folder that holds one
   * @throws ConfigError where it cannot be read
   */
  static read(path: string): ConfigValues {
    const isFolder = statSync(path, { throwIfNoEntry: false })?.isDirectory();
    const file = isFolder ? join(path, 'scheduler_config.json') : path;
    try {
      return ConfigValues.parse(readFileSync(regularFile(file), 'utf8'), file);
    } catch (cause) {
      if (cause instanceof ConfigError) throw cause;
      throw unreadable(file, cause);
    }
  }

  /** @param file where the text is from, for errors */
  static parse(text: string, file: string): ConfigValues {
    let json: unknown;
    try {
      // Python writes lambda_min_clipped as -Infinity, which JSON does not have; -1e999 is read as that.
      json = JSON.parse(text.replace(/:\s*-Infinity\b/g, ': -1e999'));
    } catch (cause) {
      throw unreadable(file, cause);
    }
    if (json === null || typeof json !== 'object' || Array.isArray(json))
      throw new ConfigError(`Expected a JSON object in ${file}`);
    return new ConfigValues(json as Record<string, unknown>, file);
  }

  /** Returns the same values but for these keys. */
  with(changes: Record<string, unknown>): ConfigValues {
    const unset = [...this.#unset].filter((key) => !(String(key) in changes));
    return new ConfigValues({ ...this.#json, ...changes, _use_default_values: unset }, this.#file);
  }

  /** Its path, for errors. */
  get file(): string {
    return this.#file;
  }

  has(key: string): boolean {
    return key in this.#json;
  }

  get(key: string): unknown {
    return this.#unset.has(key) ? undefined : (this.#json[key] ?? undefined);
  }

  fail(key: string, expected: string): never {
    throw new ConfigError(
      `Expected ${expected} for ${key} in ${this.#file} but received ${shown(this.#json[key])}`,
    );
  }

  number(key: string, fits: (value: number) => boolean, expected: string): number | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    return typeof value === 'number' && fits(value) ? value : this.fail(key, expected);
  }

  /** A number above 0. */
  positive(key: string): number | undefined {
    return this.number(key, (value) => value > 0 && value < Infinity, 'a number above 0');
  }

  count(key: string, min: number): number | undefined {
    const fits = (value: number) => Number.isInteger(value) && value >= min && value <= 1e6;
    return this.number(key, fits, `a whole number from ${min} to 1000000`);
  }

  flag(key: string): boolean | undefined {
    const value = this.get(key);
    return value === undefined || typeof value === 'boolean' ? value : this.fail(key, 'true or false');
  }

  oneOf<const T extends string | number>(key: string, allowed: readonly T[]): T | undefined {
    const value = this.get(key);
    if (value === undefined) return undefined;
    return allowed.find((one) => one === value) ?? this.fail(key, `one of ${allowed.join(', ')}`);
  }

  /** Checks a key that would change the images, and of which one value is supported. */
  only(key: string, supported: boolean | string | number): void {
    const value = this.get(key) ?? supported;
    if (value !== supported) this.fail(key, String(supported));
  }
}

function unreadable(file: string, cause: unknown): ConfigError {
  return new ConfigError(`Expected a scheduler's config at ${file}: ${(cause as Error).message}`, { cause });
}
