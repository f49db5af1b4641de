#!/usr/bin/env node
/** @file `ip-adapter`: starts the program, or says where the machine does not let its files be opened. */

/** Node opens the files of a program and its packages all at once. */
const OPEN_FILES = 256;

/** Infinity where there is none, or none is known. */
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
