/**
 * @file Does what a running training is asked for from outside (`ip-adapter steer`, the studio). Each request is logged, and
 * recorded in the options with its step, so that a steered run can be resumed, and repeated with its config.yaml.
 */
import type { GuardedContext, RequestEvent } from '../base/run-context.js';
import { rejectLeftovers, type SteeringRequest, takeRequests } from '../base/steering.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import type { TrainingState } from './checkpoints/checkpoint.js';
import { saveOptions } from './checkpoints/saved-options.js';
import type { PreparedRun } from './prepare.js';
import type { StepReporter } from './reports/step-reporter.js';

type Recorded = NonNullable<ResolvedTrainOptions['requests']>[number];

/** What a run can do when it is asked to. */
export interface Steerable {
  sample(): Promise<void>;
  save(): Promise<void>;
  /** Is told the new number of steps of the run. */
  extend(totalSteps: number): void;
}

export class Steering {
  readonly #run: PreparedRun;
  readonly #reporter: StepReporter;
  readonly #context: GuardedContext;
  readonly #actions: Steerable;
  /** Recorded requests that a repeated run has yet to do. */
  readonly #planned: Recorded[];
  #isStopping = false;

  constructor(run: PreparedRun, reporter: StepReporter, context: GuardedContext, actions: Steerable) {
    this.#run = run;
    this.#reporter = reporter;
    this.#context = context;
    this.#actions = actions;
    const { config } = run.training;
    this.#planned = (config.requests ?? []).filter(({ step }) => step > run.state.step);
    // They are recorded again, as they are done.
    this.#record((config.requests ?? []).filter(({ step }) => step <= run.state.step));
    const leftovers = run.processes.isMain ? rejectLeftovers(config.outputDir) : 0;
    if (leftovers > 0)
      context.onMessage(
        `${leftovers} requests in ${config.outputDir}/control came when no run was there; they are in control/rejected now`,
      );
  }

  /** Whether the run was asked to stop. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** Whether the run was, or will be, made longer than its options say. */
  get isExtended(): boolean {
    return [...this.#planned, ...(this.#run.training.config.requests ?? [])].some(
      ({ request }) => request === 'extend',
    );
  }

  /**
   * Does what was asked for up to now, on all processes.
   * @param isRequested whether there is something to read, the same on all processes
   */
  async obey(isRequested: boolean): Promise<void> {
    const { processes, state } = this.#run;
    // A run that is repeated ends as the other did, not where that one made a pause.
    const due: (SteeringRequest & { id?: string })[] = this.#planned
      .filter(({ step, request }) => step === state.step && request !== 'stop')
      .map(({ step: _, ...request }) => request as SteeringRequest);
    if (isRequested) {
      const { outputDir } = this.#run.training.config;
      const [found = []] = await processes.gatherJson(
        processes.isMain ? takeRequests(outputDir, this.#context.onMessage) : [],
      );
      due.push(...found);
    }
    for (const request of due) await this.#obey(request);
  }

  async #obey({ id, ...request }: SteeringRequest & { id?: string }): Promise<void> {
    const { processes, state, training } = this.#run;
    this.#reporter.flush();
    this.#record([...(training.config.requests ?? []), { step: state.step, ...request }]);
    const event: Omit<RequestEvent, 'v'> = {
      ...{ type: 'request', step: state.step, time: Date.now() / 1000, ...request },
      ...(id === undefined ? {} : { id }),
    };
    if (processes.isMain) {
      saveOptions(training.config.outputDir, training.config);
      this.#reporter.log({ v: 1, ...event });
      this.#context.emit(event);
    }
    const { request: name } = request;
    this.#context.onMessage(`Asked after step ${state.step}: ${describe(request)}`);
    if (name === 'sample') await this.#actions.sample();
    if (name === 'save') await this.#actions.save();
    if (name === 'stop') this.#isStopping = true;
    if (name === 'extend') {
      state.totalSteps += request.steps;
      this.#actions.extend(state.totalSteps);
    }
  }

  /** Writes requests into the options of the run, and so into its checkpoints. */
  #record(requests: readonly Recorded[]): void {
    const { training, state } = this.#run;
    const recorded = requests.length === 0 ? undefined : [...requests];
    training.config.requests = recorded;
    state.options.requests = recorded;
  }
}

function describe(request: SteeringRequest): string {
  return request.request === 'extend' ? `train ${request.steps} steps more` : `${request.request} now`;
}

/**
 * Returns the requests that a run takes over from its checkpoint, unless its options have some. Those that made the run longer
 * do not count where another length is given.
 */
export function inheritedRequests(
  config: ResolvedTrainOptions,
  saved: Pick<TrainingState, 'options' | 'step'> | undefined,
): ResolvedTrainOptions['requests'] {
  if (config.requests !== undefined || saved === undefined) return config.requests;
  const done = (saved.options.requests ?? []) as Recorded[];
  const { maxSteps, epochs } = saved.options;
  const isSameLength = maxSteps === config.maxSteps && (maxSteps !== undefined || epochs === config.epochs);
  return isSameLength ? done : done.filter(({ request }) => request !== 'extend');
}

/** Returns the steps by which requests up to `step` make a run longer. */
export function extraSteps({ requests = [] }: ResolvedTrainOptions, step: number): number {
  return requests.filter((one) => one.step <= step).reduce((sum, one) => sum + (one.steps ?? 0), 0);
}
