/** @file Ctrl-C, and the other ways in which a system asks a program to end, as an AbortSignal. */
import { constants } from 'node:os';
import { isatty } from 'node:tty';

/** SIGTERM is what a system sends that shuts down or takes a machine back; SIGHUP says that the terminal was closed. */
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Why work was stopped: a signal. Shells expect its number + 128 as the exit code. */
export class StoppedBySignal extends Error {
  readonly exitCode: number;

  constructor(name: NodeJS.Signals) {
    super(`stopped by ${name}`);
    this.exitCode = 128 + constants.signals[name];
  }
}

/**
 * Runs `work` with a signal that the first Ctrl-C aborts; a second one ends the process. Work that ends by the abort
 * gives its exit code. Without a terminal the closing of one is no reason to stop: Node undoes what `nohup` asks for
 * before it starts, so this is how a run under `nohup` is told.
 */
export async function withCtrlC(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const abort = new AbortController();
  const stop = (name: NodeJS.Signals): void => {
    process.stderr.write('\nStopping after this step; once more to stop at once.\n');
    abort.abort(new StoppedBySignal(name));
  };
  const goOn = (): void => {
    process.stderr.write('\nSIGHUP: there is no terminal here that could be closed, so the run goes on.\n');
  };
  const hasTerminal = [0, 1, 2].some((descriptor) => isatty(descriptor));
  for (const name of signals) {
    // A closed terminal sends more than one SIGHUP, and none of them is a wish to stop at once.
    if (name === 'SIGHUP') process.on(name, hasTerminal ? stop : goOn);
    else process.once(name, stop);
  }
  try {
    await work(abort.signal);
  } catch (error) {
    if (!(error instanceof StoppedBySignal)) throw error;
    process.exitCode = error.exitCode;
  } finally {
    for (const name of signals) process.off(name, stop).off(name, goOn);
  }
}
