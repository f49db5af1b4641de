/** @file Words for a model that is not where an option says: the option's name, and the nearest folder that has it. */
import { readdirSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UserError } from '../base/errors.js';

/** Folders that are looked at; a home folder or a disk has many more. */
const MAX_LOOKED_AT = 200;

/**
 * Opens the model that an option names. A user's error gets the option's name, and where the model is not there but near
 * it, the folder that has it.
 * @param option for the user, such as `--image-encoder (imageEncoder)`
 * @param holds whether a folder has such a model
 */
export function openNamed<T>(
  option: string,
  path: string,
  holds: (folder: string) => boolean,
  open: () => T,
): T {
  try {
    return open();
  } catch (cause) {
    if (!(cause instanceof UserError)) throw cause;
    const nearest = holds(path) ? undefined : near(path).find(holds);
    const ErrorClass = cause.constructor as typeof UserError;
    throw new ErrorClass(
      `${option} is ${path}: ${cause.message}${nearest === undefined ? '' : `; ${nearest} has one`}`,
      { cause },
    );
  }
}

/** Returns the folders in `path`, those in them, then the ones around it. */
function near(path: string): string[] {
  const inside = foldersIn(path);
  const deeper = inside.flatMap(foldersIn);
  const around = path === dirname(path) ? [] : [dirname(path), ...foldersIn(dirname(path))];
  return [...inside, ...deeper, ...around].filter((folder) => folder !== path).slice(0, MAX_LOOKED_AT);
}

function foldersIn(path: string): string[] {
  try {
    return readdirSync(path)
      .slice(0, MAX_LOOKED_AT)
      .map((name) => join(path, name))
      .filter((one) => statSync(one, { throwIfNoEntry: false })?.isDirectory());
  } catch {
    // Not a folder, or not readable.
    return [];
  }
}
