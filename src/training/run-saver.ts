/** @file Saves the checkpoints of a run. Rank 0 writes them; all processes check that their weights are the same. */
import { createHash } from 'node:crypto';
import { TrainingError } from '../base/errors.js';
import type { GuardedContext } from '../base/run-context.js';
import { describeMember, type Member } from '../distributed/process-group-error.js';
import type { Checkpoint } from './checkpoints/checkpoint.js';
import { CheckpointKeeper } from './checkpoints/keeper.js';
import type { MappedFiles } from './mapped-files.js';
import type { PreparedRun } from './prepare.js';
import type { StepReporter } from './reports/step-reporter.js';
import { AgreedError } from './steps.js';

/** Returns what a checkpoint of the run contains now. */
export function checkpointOf({ training, state }: PreparedRun): Checkpoint {
  const { adapter, optimizer, ema, scaler, generator } = training;
  return {
    state: { ...state, updates: optimizer.steps, gradScaler: scaler?.stateDict() },
    adapter: adapter.namedParameters(),
    ema: ema?.stateDict(),
    optimizer: optimizer.stateDict(),
    generator: generator.getState(),
  };
}

export class RunSaver {
  readonly #run: PreparedRun;
  /** Undefined for all ranks but 0. */
  readonly #keeper: CheckpointKeeper | undefined;
  readonly #reporter: StepReporter;
  readonly #mappedFiles: MappedFiles;
  readonly #context: GuardedContext;
  readonly #firstStep: number;
  /** The step of the newest checkpoint of the run; -1 where there is none. */
  #savedStep: number;
  /** The folder of the newest checkpoint. */
  newest: string | undefined;

  constructor(run: PreparedRun, reporter: StepReporter, mappedFiles: MappedFiles, context: GuardedContext) {
    const { config } = run.training;
    this.#run = run;
    this.#keeper = run.processes.isMain
      ? new CheckpointKeeper(config.outputDir, config, run.resumed, context.onMessage, run.state.best?.step)
      : undefined;
    this.#reporter = reporter;
    this.#mappedFiles = mappedFiles;
    this.#context = context;
    this.#firstStep = run.state.step;
    this.#savedStep = run.resumed === undefined ? -1 : run.state.step;
    this.newest = run.resumed;
  }

  /** Whether the state of the run is in its newest checkpoint. */
  get isSaved(): boolean {
    return this.#savedStep === this.#run.state.step;
  }

  /** Returns how to resume a failed run, for the end of an error message. */
  resumeHint(): string {
    return this.#keeper?.resumeHint() ?? 'resume with --resume';
  }

  /**
   * Writes a checkpoint, together with the other processes.
   * @param isLast whether the run ends with it; otherwise a disk that refuses it is only reported
   * @throws TrainingError where weights are not finite or not the same on all processes, a mapped file has changed, or the
   * last checkpoint cannot be written
   */
  async save(isLast: boolean): Promise<void> {
    const { processes, training, state } = this.#run;
    training.guard.checkLastStep();
    if (processes.worldSize > 1) await this.#assertSameWeights();
    const written = await processes.together(() => {
      this.#mappedFiles.assertIntact(this.resumeHint());
      return this.#write(isLast);
    });
    const [path = null] = await processes.gatherJson(written);
    if (path === null) return;
    this.newest = path;
    this.#savedStep = state.step;
    if (!isLast) await processes.together(() => this.#mappedFiles.assertInPlace(this.resumeHint()));
  }

  /** @returns the checkpoint's folder; null where it could not be written, and on all ranks but 0 */
  #write(isLast: boolean): string | null {
    const { lock, state } = this.#run;
    if (this.#keeper === undefined) return null;
    lock.assertHeld();
    // Before the save, so that a run that is killed after it and resumed has reported every step.
    this.#reporter.flush();
    if (!this.#keeper.save(checkpointOf(this.#run), isLast)) return null;
    const path = this.#keeper.newest as string;
    this.#context.emit({ type: 'checkpoint', step: state.step, path });
    return path;
  }

  async #assertSameWeights(): Promise<void> {
    const { processes, training, state } = this.#run;
    const hash = createHash('sha256');
    for (const parameter of training.adapter.parameters()) hash.update(parameter.toBytes());
    const hashes = await processes.gatherJson(hash.digest('hex'));
    const different = hashes.flatMap((one, rank) => (one === hashes[0] ? [] : [rank]));
    if (different.length === 0) return;
    const members = this.#run.group?.members ?? [];
    const names = different.map((rank) => describeMember(rank, members[rank] as Member));
    throw new TrainingError(
      `Expected the same weights on all processes after step ${state.step} but those of ${names.join(', ')} differ from those of rank 0: the memory or the processor of one may be faulty. No checkpoint was written; ${this.resumeHint()}`,
    );
  }

  /**
   * Saves the steps that an error would lose, unless the error is about the weights.
   * @returns the error, with what was saved and how to resume in its message
   */
  async saveAfter(error: unknown): Promise<unknown> {
    const { processes, state } = this.#run;
    const isAgreed = error instanceof AgreedError;
    const cause = isAgreed ? error.cause : error;
    const hasUnsavedSteps = state.step > this.#firstStep && !this.isSaved;
    // Where the processes do not all know of the error, rank 0 saves without the others.
    const save = isAgreed || processes.worldSize === 1 ? () => this.save(true) : () => void this.#write(true);
    if (this.#keeper !== undefined)
      return this.#keeper.saveAfter(cause, state.step + 1, hasUnsavedSteps ? save : undefined);
    // If the save fails, rank 0 says so.
    if (hasUnsavedSteps) await Promise.resolve(save()).catch(() => {});
    return cause;
  }
}
