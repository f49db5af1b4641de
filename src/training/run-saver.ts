/** @file Saves the checkpoints of a run. */
import type { GuardedContext } from '../base/run-context.js';
import type { CheckpointKeeper } from './checkpoints/keeper.js';
import type { MappedFiles } from './mapped-files.js';
import type { PreparedRun } from './prepare.js';
import type { StepReporter } from './reports/step-reporter.js';

export class RunSaver {
  readonly #run: PreparedRun;
  readonly #keeper: CheckpointKeeper;
  readonly #reporter: StepReporter;
  readonly #mappedFiles: MappedFiles;
  readonly #context: GuardedContext;
  /** The step of the newest checkpoint of the run; -1 where there is none. */
  #savedStep: number;

  constructor(
    run: PreparedRun,
    keeper: CheckpointKeeper,
    reporter: StepReporter,
    mappedFiles: MappedFiles,
    context: GuardedContext,
  ) {
    this.#run = run;
    this.#keeper = keeper;
    this.#reporter = reporter;
    this.#mappedFiles = mappedFiles;
    this.#context = context;
    this.#savedStep = run.resumed === undefined ? -1 : run.state.step;
  }

  /** Whether the state of the run is in its newest checkpoint. */
  get isSaved(): boolean {
    return this.#savedStep === this.#run.state.step;
  }

  /**
   * Writes a checkpoint.
   * @param isLast whether the run ends with it; otherwise a disk that refuses it is only reported
   * @throws TrainingError where weights are not finite, a mapped file has changed, or the last checkpoint cannot be written
   */
  save(isLast: boolean): void {
    const { lock, training, state } = this.#run;
    const { adapter, optimizer, ema, scaler, generator, guard } = training;
    const keeper = this.#keeper;
    lock.assertHeld();
    this.#mappedFiles.assertIntact(keeper.resumeHint());
    guard.checkLastStep();
    // Before the save, so that a run that is killed after it and resumed has reported every step.
    this.#reporter.flush();
    const content = {
      state: { ...state, updates: optimizer.steps, gradScaler: scaler?.stateDict() },
      adapter: adapter.namedParameters(),
      ema: ema?.stateDict(),
      optimizer: optimizer.stateDict(),
      generator: generator.getState(),
    };
    if (!keeper.save(content, isLast)) return;
    this.#savedStep = state.step;
    this.#context.emit({ type: 'checkpoint', step: state.step, path: keeper.newest as string });
    if (!isLast) this.#mappedFiles.assertInPlace(keeper.resumeHint());
  }
}
