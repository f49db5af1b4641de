/**
 * @file Writes checkpoints, deletes older ones, and decides what happens if one cannot be written.
 *
 * A full disk does not end the run at a save before the last: the weights are in memory, the previous checkpoint is complete,
 * and at the next save there may be space again. A failed last save ends the run with an error.
 */
import { basename, dirname, resolve } from 'node:path';
import { listCheckpoints, stepOf } from '../../adapters/adapter-path.js';
import { CheckpointError, isSystemError, TorchError, TrainingError, UserError } from '../../base/errors.js';
import { firstNonFinite } from '../../torch/finite.js';
import { type Checkpoint, keepOnlyAdapters, saveCheckpoint, verifyCheckpoint } from './checkpoint.js';
import { clearLeftovers, deleteOldest, linkBest } from './folder.js';

/** What is kept of the checkpoints before the newest. */
export interface Kept {
  /** The number of checkpoints, 1 or more; undefined for all. */
  checkpointsTotalLimit?: number | undefined;
  checkpointContent?: 'all' | 'adapter';
}

export class CheckpointKeeper {
  /** The newest checkpoint of this run, or the one that it was resumed from. */
  newest: string | undefined;
  readonly #outputDir: string;
  readonly #kept: Kept;
  readonly #onMessage: ((message: string) => void) | undefined;

  /** @param best the step of the best one of a resumed run, which is kept in any case */
  constructor(
    outputDir: string,
    kept: Kept,
    resumed: string | undefined,
    onMessage?: (message: string) => void,
    best?: number,
  ) {
    this.#outputDir = outputDir;
    this.#kept = kept;
    this.newest = resumed;
    this.#onMessage = onMessage;
    clearLeftovers(outputDir);
    const newest = listCheckpoints(outputDir).at(-1);
    // Compare the names only, since the checkpoint to resume may be given by another path.
    if (resumed !== undefined && newest !== undefined && stepOf(newest) > stepOf(resumed))
      onMessage?.(
        `Later checkpoints, up to ${basename(newest)}, remain in ${outputDir}, and --resume without a path would use that one: give the path of a checkpoint of this run, or delete the later ones`,
      );
    // A run that was killed before it had deleted them may have nothing left to train, and so no save that does.
    if (resumed !== undefined && resolve(dirname(resumed)) === resolve(outputDir)) this.#shed(resumed, best);
  }

  /**
   * Writes a checkpoint.
   * @param isLast whether the run ends with it; otherwise a failed write is only reported
   * @returns whether it was written
   * @throws TrainingError if weights are NaN or infinite, or if the last checkpoint cannot be written
   */
  save(content: Checkpoint, isLast: boolean): boolean {
    const { step } = content.state;
    const fault = firstNonFinite(content.adapter);
    if (fault !== undefined)
      throw new TrainingError(
        `Expected finite weights after step ${step} but ${fault.name} has ${fault.value}. No checkpoint was written; ${this.resumeHint()}, with a lower --learning-rate`,
      );
    try {
      const path = saveCheckpoint(this.#outputDir, content);
      // Verify it before older ones are deleted, which may be the only complete ones.
      if (this.#shedsOlder) verifyCheckpoint(path);
      this.newest = path;
    } catch (error) {
      if (!isSystemError(error) && !(error instanceof CheckpointError)) throw error;
      const what = `The checkpoint of step ${step} could not be written: ${error.message}.`;
      if (isLast)
        throw new TrainingError(
          `${what} Free space in ${this.#outputDir} (--checkpoints-total-limit deletes older checkpoints); ${this.resumeHint()}`,
          { cause: error },
        );
      this.#onMessage?.(`${what} The run continues, and tries again at the next save`);
      return false;
    }
    this.#onMessage?.(`Saved ${this.newest}`);
    const { best } = content.state;
    try {
      if (best !== undefined) linkBest(this.#outputDir, best.step);
    } catch (error) {
      // On a file system without links the checkpoint's state still says which one it is.
      if (!isSystemError(error)) throw error;
      this.#onMessage?.(`The link to the best checkpoint could not be written: ${error.message}`);
    }
    this.#shed(this.newest, best?.step);
    return true;
  }

  get #shedsOlder(): boolean {
    const { checkpointsTotalLimit, checkpointContent } = this.#kept;
    return checkpointsTotalLimit !== undefined || checkpointContent === 'adapter';
  }

  /** Deletes what is not to be kept of the checkpoints before `newest`. @param best the step of one that stays in any case */
  #shed(newest: string, best: number | undefined): void {
    if (!this.#shedsOlder) return;
    const { checkpointsTotalLimit: limit, checkpointContent } = this.#kept;
    try {
      // Delete what could not be deleted the last time.
      clearLeftovers(this.#outputDir);
      if (limit !== undefined) deleteOldest(newest, limit, best);
      if (checkpointContent === 'adapter') keepOnlyAdapters(newest);
    } catch (error) {
      if (!isSystemError(error) && !(error instanceof CheckpointError)) throw error;
      this.#onMessage?.(`An older checkpoint could not be deleted: ${error.message}`);
    }
  }

  /**
   * Saves the steps that an error would lose, unless the error is about the weights.
   * @param step the number of the step that failed
   * @param save writes the last checkpoint; undefined if every step is saved
   * @returns the error, with what was saved and how to resume in its message
   */
  async saveAfter(
    error: unknown,
    step: number,
    save: (() => void | Promise<void>) | undefined,
  ): Promise<unknown> {
    // A save has failed, or the weights must not be saved.
    if (error instanceof TrainingError) return error;
    let hint = this.resumeHint();
    if (save !== undefined) {
      try {
        await save();
        hint = this.resumeHint();
      } catch (second) {
        hint = second instanceof Error ? second.message : String(second);
      }
    }
    if (error instanceof TorchError && /out of memory/i.test(error.message))
      return new TrainingError(
        `Expected enough memory for step ${step} but ${error.message}. Take a smaller --batch-size with more --gradient-accumulation-steps, or --gradient-checkpointing; ${hint}`,
        { cause: error },
      );
    if (error instanceof UserError || isSystemError(error)) error.message += `; ${hint}`;
    else this.#onMessage?.(`Step ${step} failed; ${hint}`);
    return error;
  }

  /** Returns how to resume a failed run, for the end of an error message. */
  resumeHint(): string {
    return this.newest === undefined
      ? 'there is no checkpoint to resume: start again'
      : `resume with --resume ${this.newest}`;
  }
}
