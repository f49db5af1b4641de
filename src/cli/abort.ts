/** @file Ctrl-C, and the other ways in which a system asks a program to end, as an AbortSignal. */
import { constants } from 'node:os';
import { isatty } from 'node:tty';

/**
 * Sent by a person, or by a system that shuts down or reclaims a machine. A second one means: quit immediately.
 */
const stopSignals = ['SIGINT', 'SIGTERM', 'SIGQUIT'] as const;

/**
 * Sent by batch systems some time before they kill, so that work can be saved. They may be repeated (SIGXCPU comes every
 * second, a closed terminal sends more than one SIGHUP), which does not mean: quit immediately.
 */
const saveSignals = ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGXCPU'] as const;

/** Work was stopped by a signal. Shells expect its number + 128 as the exit code. */
export class StoppedBySignal extends Error {
  readonly exitCode: number;

  constructor(name: NodeJS.Signals) {
    super(`stopped by ${name}`);
    this.exitCode = 128 + constants.signals[name];
  }
}

/**
 * Runs `work` with an AbortSignal that the first signal to the process aborts. Work that the abort ends sets the signal's
 * exit code. SIGHUP is ignored where there is no terminal: Node resets the signal that `nohup` ignores, so a run under
 * `nohup` would stop otherwise.
 *
 * @param isQuiet whether another process reports signals
 *
 * The handlers stay until the process ends: a signal after the work must not kill it before it has reported.
 */
export async function withCtrlC(
  work: (signal: AbortSignal) => Promise<void>,
  isQuiet = false,
): Promise<void> {
  const abort = new AbortController();
  let isOver = false;
  const stop = (name: NodeJS.Signals): void => {
    if (isOver || abort.signal.aborted) return;
    if (!isQuiet)
      process.stderr.write(`\n${name}: finishing this step. Press Ctrl-C again to quit immediately.\n`);
    abort.abort(new StoppedBySignal(name));
  };
  const ignore = (): void => {
    if (!isOver) process.stderr.write('\nSIGHUP: ignored, because the run has no terminal; it continues.\n');
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
