/** @file Ctrl-C, and the other ways in which a system asks a program to end, as an AbortSignal. */
import { constants } from 'node:os';
import { isatty } from 'node:tty';

/**
 * A person sends these, or a system that shuts down or takes a machine back. A second one of the kind is a wish to stop
 * at once.
 */
const stopSignals = ['SIGINT', 'SIGTERM', 'SIGQUIT'] as const;

/**
 * Batch systems send these a while before they kill: a wish to save. They may come again (SIGXCPU comes every second, a
 * closed terminal sends more than one SIGHUP), and that is no wish to stop at once.
 */
const saveSignals = ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'] as const;

/** Why work was stopped: a signal. Shells expect its number + 128 as the exit code. */
export class StoppedBySignal extends Error {
  readonly exitCode: number;

  constructor(name: NodeJS.Signals) {
    super(`stopped by ${name}`);
    this.exitCode = 128 + constants.signals[name];
  }
}

/**
 * Runs `work` with an AbortSignal that the first signal to the process aborts. Work that ends by the abort gives its exit
 * code. Without a terminal the closing of one is no reason to stop: Node undoes what `nohup` asks for before it starts,
 * so this is how a run under `nohup` notices it.
 *
 * The process listens to the end: a signal after the work must not kill it before it has reported.
 */
export async function withCtrlC(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const abort = new AbortController();
  let isOver = false;
  const stop = (name: NodeJS.Signals): void => {
    if (isOver || abort.signal.aborted) return;
    process.stderr.write(`\n${name}: stopping after this step; Ctrl-C again stops at once.\n`);
    abort.abort(new StoppedBySignal(name));
  };
  const ignore = (): void => {
    if (!isOver)
      process.stderr.write('\nSIGHUP: there is no terminal here that could be closed; the run continues.\n');
  };
  const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));
  for (const name of stopSignals) process.once(name, stop);
  for (const name of saveSignals) process.on(name, name === 'SIGHUP' && !hasTerminal ? ignore : stop);
  try {
    await work(abort.signal);
  } catch (error) {
    if (!(error instanceof StoppedBySignal)) throw error;
    process.exitCode = error.exitCode;
  } finally {
    isOver = true;
  }
}
