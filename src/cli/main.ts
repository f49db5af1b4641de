/** @file Starts the program, or explains a limit of open files that is too low for it. */

/** Node opens many files of a program and its packages at the same time. */
const OPEN_FILES = 256;

/** Returns Infinity where there is no limit, or it is not known. */
function openFilesLimit(): number {
  const { userLimits } = process.report.getReport() as { userLimits?: { open_files?: { soft?: unknown } } };
  const limit = userLimits?.open_files?.soft;
  return typeof limit === 'number' ? limit : Number.POSITIVE_INFINITY;
}

try {
  await import('./program.js');
} catch (error) {
  const limit = openFilesLimit();
  if (limit >= OPEN_FILES) throw error;
  process.stderr.write(
    `ConfigError: Expected a limit of ${OPEN_FILES} open files or more but it is ${limit}, too few to start; raise it with ulimit -n 1024.\n`,
  );
  process.exitCode = 2;
}

export {};
