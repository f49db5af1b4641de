/** @file Starts and stops the process of the engine, and gives it one job at a time. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { FromEngine, ToEngine } from './engine-messages.js';

const program = fileURLToPath(new URL('../../dist/studio/engine.js', import.meta.url));
/** Models take memory that trainings may need. */
const IDLE_MS = 10 * 60_000;

export interface EngineJob {
  work: Extract<ToEngine, { type: 'generate' }>;
  /** Is told what the engine says; `failed` also where the process ends. */
  onMessage: (message: FromEngine) => void;
}

export class EngineProcess implements Disposable {
  readonly #idleMs: number;
  #child: ChildProcess | undefined;
  #job: EngineJob | undefined;
  #idle: NodeJS.Timeout | undefined;

  constructor(idleMs = IDLE_MS) {
    this.#idleMs = idleMs;
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Begins a job; the last one must have ended. */
  run(job: EngineJob): void {
    clearTimeout(this.#idle);
    this.#job = job;
    this.#child ??= this.#start();
    this.#child.send(job.work satisfies ToEngine, (error) => error && this.#end(error.message));
  }

  /** Ends the job after the step that is under way. */
  cancel(): void {
    this.#child?.send({ type: 'cancel' } satisfies ToEngine, () => {});
  }

  #start(): ChildProcess {
    const child = fork(program, [], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', (message: FromEngine) => {
      if (this.#child !== child) return;
      const { onMessage } = this.#job as EngineJob;
      if (message.type === 'done' || message.type === 'failed') this.#job = undefined;
      onMessage(message);
      if (this.#job === undefined) this.#rest();
    });
    child.on('error', (error) => this.#child === child && this.#end(error.message));
    child.on('exit', (code, signal) => {
      if (this.#child !== child) return;
      const how = signal === null ? `with code ${code}` : `by ${signal}`;
      this.#end(
        `The engine's process ended ${how}${signal === 'SIGKILL' ? '; the machine may be out of memory' : ''}`,
      );
    });
    child.unref();
    child.channel?.unref();
    return child;
  }

  #rest(): void {
    this.#idle = setTimeout(() => this.stop(), this.#idleMs);
    this.#idle.unref();
  }

  /** The process is gone, or of no use: the next job starts another. */
  #end(error: string): void {
    const job = this.#job;
    this.stop();
    job?.onMessage({ type: 'failed', error, isCancelled: false });
  }

  /** Ends the process, and so releases the memory of its models. */
  stop(): void {
    clearTimeout(this.#idle);
    this.#job = undefined;
    const child = this.#child;
    this.#child = undefined;
    child?.kill('SIGKILL');
  }

  [Symbol.dispose](): void {
    this.stop();
  }
}
