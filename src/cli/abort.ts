/** @file Ctrl-C, and a system's polite request to end, as an AbortSignal. */

const signals = ['SIGINT', 'SIGTERM'] as const;

/**
 * Runs `work` with a signal that the first Ctrl-C aborts; a second one ends the process. Work that ends by the abort
 * makes exit code 130, as shells expect.
 */
export async function withCtrlC(work: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const abort = new AbortController();
  const stop = (): void => {
    process.stderr.write('\nStopping after this step; once more to stop at once.\n');
    abort.abort();
  };
  // SIGTERM is what a system sends that shuts down or takes a machine back.
  for (const name of signals) process.once(name, stop);
  try {
    await work(abort.signal);
  } catch (error) {
    if (!abort.signal.aborted || error !== abort.signal.reason) throw error;
    process.exitCode = 130;
  } finally {
    for (const name of signals) process.off(name, stop);
  }
}
