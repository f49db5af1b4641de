/** @file Options that have a value for each dataset, or one for all. */
import { ConfigError } from '../base/errors.js';

/**
 * Returns the function that gives a dataset's value.
 * @param name of the option, for the error
 * @param values one for all datasets, or one for each; undefined: none has a value
 * @throws ConfigError for another number of values
 */
export function forEachDataset<T>(
  name: string,
  values: readonly T[] | undefined,
  datasets: number,
): (dataset: number) => T | undefined {
  if (values === undefined) return () => undefined;
  if (values.length !== 1 && values.length !== datasets)
    throw new ConfigError(
      `${name} has ${values.length} values for ${datasets === 1 ? '1 dataset' : `${datasets} datasets`}; give one for all, or one for each`,
    );
  return (dataset) => values[values.length === 1 ? 0 : dataset];
}
