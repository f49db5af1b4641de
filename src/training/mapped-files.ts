/**
 * @file Notices changes of the files that a run keeps mapped: model weights and cached encodings. If one is overwritten,
 * the frozen weights change under the run, and the system reports nothing.
 */
import { type BigIntStats, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { TrainingError } from '../base/errors.js';

const weights = /\.(safetensors|bin|ckpt|pt|pth)$/;

export class MappedFiles {
  readonly #stats = new Map<string, BigIntStats>();

  /** @param paths files, and folders of files, that have just been mapped */
  constructor(paths: Iterable<string>) {
    for (const path of paths)
      for (const file of filesOf(path)) this.#stats.set(file, statSync(file, { bigint: true }));
  }

  /**
   * Checks the files before a save: steps that were trained with other frozen weights must not be saved.
   * @throws TrainingError where a file was overwritten or cut
   */
  assertIntact(resumeHint: string): void {
    for (const [file, then] of this.#stats) {
      const now = statSync(file, { bigint: true, throwIfNoEntry: false });
      if (now === undefined || !isSameFile(now, then)) continue;
      if (now.size !== then.size || now.mtimeNs !== then.mtimeNs)
        throw new TrainingError(
          `Expected ${file} to stay as it was but it was ${now.size < then.size ? 'cut short' : 'overwritten'} while this run used it. The steps since the last save may have been trained with other weights and are not saved. Put the file back; ${resumeHint}`,
        );
    }
  }

  /**
   * Checks the files after a save. This run still maps the old file, but a resumed run would read the new one.
   * @throws TrainingError where another file was put in the place of one
   */
  assertInPlace(resumeHint: string): void {
    for (const [file, then] of this.#stats) {
      const now = statSync(file, { bigint: true, throwIfNoEntry: false });
      // A deleted file stays mapped, and no other file has taken its place.
      if (now !== undefined && !isSameFile(now, then))
        throw new TrainingError(
          `Expected ${file} to stay but another file was put in its place while this run used it. All steps are saved. Put the old file back; ${resumeHint}`,
        );
    }
  }
}

function isSameFile(one: BigIntStats, other: BigIntStats): boolean {
  return one.ino === other.ino && one.dev === other.dev;
}

function filesOf(path: string): string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .filter((name) => weights.test(name))
    .map((name) => join(path, name))
    .filter((file) => statSync(file, { throwIfNoEntry: false })?.isFile());
}
