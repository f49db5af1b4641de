/**
 * @file What a run finds out about itself as it goes: the gain and the scores of held-out rows, drifts, what they say in
 * words, and which checkpoint is the best.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { IPAdapter } from '../adapters/ip-adapter.js';
import { ConfigError } from '../base/errors.js';
import type { GainEvent, GuardedContext, RunEvent, ScoresEvent, VerdictEvent } from '../base/run-context.js';
import { onMain } from '../distributed/processes.js';
import type { BestMeasure, Part } from '../options/train-options.js';
import { DriftWatch } from './drift.js';
import type { Encode } from './encodings/frozen-encoders.js';
import type { GainMeter, GainReport } from './gain.js';
import { openGainMeter } from './gain-check.js';
import type { PreparedRun } from './prepare.js';
import { type MeasureEvent, metricsFile, readMetrics } from './reports/metrics-file.js';
import type { StepReporter } from './reports/step-reporter.js';
import type { RunSaver } from './run-saver.js';
import { openScoreCheck, type ScoreCheck } from './score-check.js';
import { copyStatement, imageStatement, type Statement, textStatement, verdictOf } from './verdict.js';

/** The gain is measured also after these steps: whether a run learns should be known soon. */
const EARLY_STEPS = [50, 100, 200];

/** What a statement is about: of one subject, the same is not said twice in a row. */
const subjects: Record<VerdictEvent['kind'], string> = {
  'uses the image': 'image',
  harms: 'image',
  'ignores the image': 'image',
  'does not use the image yet': 'image',
  unclear: 'image',
  copies: 'copies',
  'ignores the text': 'text',
  'loss drifts': 'loss',
  'norm drifts': 'norm',
};

/** @throws ConfigError where what is asked for needs held-out rows; DatasetError as the checks */
export async function openChecks(
  run: PreparedRun,
  encoders: Record<Part, Encode>,
  context: GuardedContext,
): Promise<RunChecks> {
  const { config } = run.training;
  assertHeldOut(config, run.heldOut !== undefined);
  const gain = await openGainMeter(run, encoders);
  const scores = await openScoreCheck(run, context);
  const checks = new RunChecks(run, gain, scores, context);
  await checks.recall();
  return checks;
}

type Config = PreparedRun['training']['config'];

function assertHeldOut({ validationScores, keepBest, dinoEncoder }: Config, isHeldOut: boolean): void {
  const rows = 'give --validation-split, or --validation-dataset';
  if (validationScores !== undefined && !isHeldOut)
    throw new ConfigError(`--validation-scores (validationScores) needs held-out rows; ${rows}`);
  if (keepBest === undefined) return;
  if (!isHeldOut) throw new ConfigError(`--keep-best (keepBest) needs held-out rows; ${rows}`);
  if (keepBest !== 'gain' && validationScores === undefined)
    throw new ConfigError(
      `--keep-best (keepBest) ${keepBest} needs images of held-out rows; give --validation-scores`,
    );
  if (keepBest === 'dino' && dinoEncoder === undefined)
    throw new ConfigError('--keep-best (keepBest) dino needs an encoder; give --dino-encoder');
}

export class RunChecks implements Disposable {
  readonly #run: PreparedRun;
  readonly #gain: GainMeter | undefined;
  readonly #scores: ScoreCheck | undefined;
  readonly #context: GuardedContext;
  readonly #drift: DriftWatch;
  /** The kind that was said last, by subject. */
  readonly #said = new Map<string, VerdictEvent['kind']>();
  readonly #pending: Statement[] = [];
  #firstGain: { step: number; report: GainReport } | undefined;
  /** The steps that were measured last: the end of a run may be a validation step. */
  #measuredAt = { gain: 0, scores: 0 };

  /** @internal */
  constructor(
    run: PreparedRun,
    gain: GainMeter | undefined,
    scores: ScoreCheck | undefined,
    context: GuardedContext,
  ) {
    const { batchSize, gradientAccumulationSteps } = run.training.config;
    this.#run = run;
    this.#gain = gain;
    this.#scores = scores;
    this.#context = context;
    this.#drift = new DriftWatch(batchSize * gradientAccumulationSteps * run.processes.worldSize);
  }

  /**
   * Takes up what a resumed run had found out before its checkpoint. Rank 0 reads it for all: they have to agree on what is
   * measured next, and another host may not have the file. Only rank 0 speaks of the steps, which are many.
   * @internal
   */
  async recall(): Promise<void> {
    const { processes, state, training } = this.#run;
    const file = join(training.config.outputDir, metricsFile);
    const measures: MeasureEvent[] = [];
    if (processes.isMain && state.step > 0 && existsSync(file))
      for (const event of readMetrics(file)) {
        if (event.step > state.step) continue;
        if (event.type === 'step') this.#drift.add(event);
        else measures.push(event);
      }
    const [shared = []] = await processes.gatherJson(measures);
    for (const event of shared) {
      if (event.type === 'gain') this.#noteGain(event);
      if (event.type === 'scores') this.#noteScores(event);
      if (event.type === 'verdict') this.#said.set(subjects[event.kind], event.kind);
    }
  }

  /** Whether anything is measured on held-out rows. */
  get isMeasuring(): boolean {
    return this.#gain !== undefined;
  }

  /** A context that notices drifts in the steps that it passes on. */
  get watching(): GuardedContext {
    const { emit } = this.#context;
    return {
      ...this.#context,
      emit: (event) => {
        emit(event);
        if (event.type === 'step')
          this.#pending.push(...this.#drift.add(event as RunEvent & { type: 'step' }));
      },
    };
  }

  /**
   * Measures what is due after a step, and keeps the checkpoint where it is the best.
   * @param isAllDue whether to measure everything, as at the end of a run
   */
  async after(step: number, reporter: StepReporter, saver: RunSaver, isAllDue = false): Promise<void> {
    const { training } = this.#run;
    const { validationSteps } = training.config;
    const isValidation = step % validationSteps === 0 || isAllDue;
    const { gain, scores } = this.#measuredAt;
    const gainIsDue = this.#gain !== undefined && step > gain && (isValidation || EARLY_STEPS.includes(step));
    const scoresAreDue = this.#scores !== undefined && step > scores && isValidation;
    if (gainIsDue || scoresAreDue)
      await reporter.untimed(async () => {
        if (gainIsDue) await this.#measureGain(training.adapter, step, reporter);
        if (scoresAreDue) await this.#measureScores(step, reporter);
      });
    this.#sayPending(step, reporter);
    const { keepBest } = training.config;
    if (keepBest !== undefined) await this.#keepBest(keepBest, step, saver);
  }

  #latest: { gain?: GainEvent; scores?: ScoresEvent } = {};

  async #measureGain(adapter: IPAdapter, step: number, reporter: StepReporter): Promise<void> {
    const report = await (this.#gain as GainMeter).measure(adapter);
    const verdict = verdictOf(report);
    const event: GainEvent = { v: 1, type: 'gain', step, time: Date.now() / 1000, ...report, verdict };
    reporter.log(event);
    this.#context.emit(event);
    this.#noteGain(event);
    const image = imageStatement(report, step, this.#firstGain?.step === step ? undefined : this.#firstGain);
    // An unclear beginning is not worth words.
    if (image.kind !== 'unclear' || this.#said.has(subjects.unclear)) this.#pending.push(image);
    this.#pending.push(...[textStatement(report, step)].filter((statement) => statement !== null));
  }

  async #measureScores(step: number, reporter: StepReporter): Promise<void> {
    const report = await (this.#scores as ScoreCheck).measure(step);
    if (report === undefined) return;
    const event: ScoresEvent = { v: 1, type: 'scores', step, time: Date.now() / 1000, ...report };
    reporter.log(event);
    this.#context.emit(event);
    this.#noteScores(event);
    this.#context.onMessage(describeScores(event));
    this.#pending.push(...[copyStatement(event, step)].filter((statement) => statement !== null));
  }

  #noteGain(event: GainEvent): void {
    this.#firstGain ??= { step: event.step, report: event };
    this.#latest.gain = event;
    this.#measuredAt.gain = event.step;
  }

  #noteScores(event: ScoresEvent): void {
    this.#latest.scores = event;
    this.#measuredAt.scores = event.step;
  }

  /** Says what is not what was said last. */
  #sayPending(step: number, reporter: StepReporter): void {
    for (const { kind, text } of this.#pending.splice(0)) {
      if (this.#said.get(subjects[kind]) === kind) continue;
      this.#said.set(subjects[kind], kind);
      const event: VerdictEvent = { v: 1, type: 'verdict', step, time: Date.now() / 1000, kind, text };
      reporter.log(event);
      this.#context.emit(event);
      this.#context.onMessage(text);
    }
  }

  async #keepBest(by: BestMeasure, step: number, saver: RunSaver): Promise<void> {
    const { state, processes } = this.#run;
    const value = comparedBy(by, this.#latest, step);
    if (value === undefined || state.best?.step === step) return;
    // Rank 0 decides for all.
    const isBest = await onMain(processes, () => state.best?.by !== by || value > state.best.value);
    if (!isBest) return;
    state.best = { by, step, value };
    await saver.save(false);
    this.#context.onMessage(`The best checkpoint by ${by} so far: step ${step}, ${value.toPrecision(4)}`);
  }

  [Symbol.dispose](): void {
    this.#gain?.[Symbol.dispose]();
    this.#scores?.[Symbol.dispose]();
  }
}

/** Returns the mean by which checkpoints are compared; undefined where it was not measured after this step. */
export function comparedBy(
  by: BestMeasure,
  { gain, scores }: { gain?: GainEvent; scores?: ScoresEvent },
  step: number,
): number | undefined {
  if (by === 'gain') return gain?.step === step ? gain.gain.mean : undefined;
  if (scores?.step !== step) return undefined;
  const { retrieval, dino, clipI, clipT } = scores.adapter;
  return { retrieval, dino, 'clip-i': clipI, 'clip-t': clipT }[by]?.mean;
}

function describeScores({ step, rows, adapter, shuffled, noAdapter }: ScoresEvent): string {
  const cosine = (value: number): string => value.toFixed(3);
  const percent = (value: number): string => `${(100 * value).toFixed(1)} %`;
  const line = (name: string, key: keyof typeof adapter, shown: (value: number) => string): string => {
    const score = adapter[key];
    if (score === null) return '';
    const beside = `another reference ${shown(shuffled[key]?.mean ?? 0)}, no adapter ${shown(noAdapter[key]?.mean ?? 0)}`;
    return `${name} ${shown(score.mean)} (${shown(score.low)} … ${shown(score.high)}; ${beside})`;
  };
  const lines = [
    line('retrieval', 'retrieval', percent),
    line('DINO', 'dino', cosine),
    line('CLIP-I', 'clipI', cosine),
    line('CLIP-T', 'clipT', cosine),
  ].filter((text) => text !== '');
  const chance = percent(1 / rows);
  return `Step ${step}, ${rows} held-out references: ${lines.join('; ')}. Chance of retrieval ${chance}. CLIP-I alone rewards copies, of which ${percent(adapter.copies.mean)}`;
}
