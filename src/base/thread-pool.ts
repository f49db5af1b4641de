/** @file Node's threads, in which files are read and images decoded. */

/** Node's number of threads without the variable. */
const DEFAULT = 4;

/**
 * Returns the number of Node's threads. It is set for the whole process by UV_THREADPOOL_SIZE before the first of them
 * starts: the command `ip-adapter` takes as many as there are cores; a program that uses this package must be started with it.
 */
export function poolThreads(): number {
  return Number(process.env.UV_THREADPOOL_SIZE) || DEFAULT;
}
