/** @file Ctrl-C as an AbortSignal. */

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
  process.once('SIGINT', stop);
  try {
    await work(abort.signal);
  } catch (error) {
    if (!abort.signal.aborted || error !== abort.signal.reason) throw error;
    process.exitCode = 130;
  } finally {
    process.off('SIGINT', stop);
  }
}
