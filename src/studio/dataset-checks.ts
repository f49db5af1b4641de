/** @file Checks datasets, each in a process of its own, and keeps what the last checks have found. */
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { ConfigError } from '../base/errors.js';
import { usesMasks } from '../data/reference-options.js';
import type {
  CheckFault,
  CheckMessage,
  CheckRequest,
  CheckSamples,
  CheckSummary,
  ProblemRows,
} from '../options/check-messages.js';

const program = fileURLToPath(new URL('../../dist/dataset-check/check-process.js', import.meta.url));
const MAX_RUNNING = 2;
const KEPT = 8;

/** What the page is told of a check. */
export interface DatasetCheck {
  id: string;
  /** The datasets that are checked. */
  datasets: readonly string[];
  status: 'running' | 'done' | 'failed' | 'cancelled';
  /** Images that have been read, of all. */
  done: number;
  total: number;
  /** Some rows as the encoders see them. */
  samples?: CheckSamples;
  /** Why there are none; the check goes on without them. */
  samplesFault?: CheckFault;
  summary?: CheckSummary;
  fault?: CheckFault;
}

interface Check {
  child: ChildProcess;
  shown: DatasetCheck;
  hasMasks: boolean;
  rows?: ProblemRows;
}

export class DatasetChecks implements Disposable {
  /** In the order of their start. */
  readonly #checks = new Map<string, Check>();

  /** Begins a check. @returns its id @throws ConfigError where enough are going on */
  start({ options, roots }: CheckRequest): string {
    const running = [...this.#checks.values()].filter(({ shown }) => shown.status === 'running');
    if (running.length >= MAX_RUNNING)
      throw new ConfigError(
        `${MAX_RUNNING} datasets are being checked already, ${running.map(({ shown }) => shown.datasets.join(' ')).join(' and ')}; cancel one, or wait`,
      );
    const id = randomUUID();
    const datasets = [options.dataset].flat();
    const child = fork(program, [], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    const shown: DatasetCheck = { id, datasets, status: 'running', done: 0, total: 0 };
    const check: Check = { child, shown, hasMasks: usesMasks(options) };
    this.#checks.set(id, check);
    child.on('message', (message: CheckMessage) => take(check, message));
    const end = (error: string): void => take(check, { type: 'failed', error, isFault: false });
    child.on('error', ({ message }) => end(message));
    child.on('exit', (code, signal) =>
      end(
        `The check's process ended ${signal === null ? `with code ${code}` : `by ${signal}`}${signal === 'SIGKILL' ? '; the machine may be out of memory' : ''}`,
      ),
    );
    child.unref();
    child.channel?.unref();
    child.send({ options, roots } satisfies CheckRequest, (error) => error && end(error.message));
    this.#forgetOld();
    return id;
  }

  get list(): DatasetCheck[] {
    return [...this.#checks.values()].map(({ shown }) => shown).reverse();
  }

  get(id: string): DatasetCheck | undefined {
    return this.#checks.get(id)?.shown;
  }

  /**
   * Returns the rows with problems that a check has found; undefined where it is not done, or of other rows.
   * @param masks whether masks are read, which are then no rows
   */
  rowsOf(id: string, dataset: string, masks: boolean): ProblemRows | undefined {
    const check = this.#checks.get(id);
    const isOfIt = check?.shown.datasets.join('\n') === dataset && check.hasMasks === masks;
    return isOfIt ? check.rows : undefined;
  }

  /** @returns whether it was going on */
  cancel(id: string): boolean {
    const check = this.#checks.get(id);
    if (check?.shown.status !== 'running') return false;
    check.shown.status = 'cancelled';
    check.child.kill('SIGKILL');
    return true;
  }

  #forgetOld(): void {
    for (const [id, { shown }] of this.#checks) {
      if (this.#checks.size <= KEPT) return;
      if (shown.status !== 'running') this.#checks.delete(id);
    }
  }

  [Symbol.dispose](): void {
    for (const id of this.#checks.keys()) this.cancel(id);
  }
}

/** Notes what a check says. What comes after its end is not news. */
function take(check: Check, message: CheckMessage): void {
  const { shown } = check;
  if (shown.status !== 'running') return;
  if (message.type === 'progress') Object.assign(shown, { done: message.done, total: message.total });
  else if (message.type === 'samples') shown.samples = message.samples;
  else if (message.type === 'done') {
    Object.assign(shown, { status: 'done', summary: message.summary });
    check.rows = message.rows;
  } else {
    const { type, ...fault } = message;
    if (type === 'samples failed') shown.samplesFault = fault;
    else Object.assign(shown, { status: 'failed', fault });
  }
}
