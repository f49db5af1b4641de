/**
 * @file Errors that a user can cause and fix. Their messages say what was expected, where, and what to do. The command line
 * exits with code 2 on any of them; any other error is a bug in this package.
 */

/** Names and values from a file can have any length; a message must fit a terminal. */
const MAX_MESSAGE = 3000;
const MAX_SHOWN = 120;

/** Base class of errors that a user can cause and fix. The middle of a message of more than 3000 characters is cut out. */
export class UserError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    const half = MAX_MESSAGE / 2;
    super(
      message.length > MAX_MESSAGE ? `${message.slice(0, half)} … ${message.slice(-half)}` : message,
      options,
    );
    this.name = new.target.name;
  }
}

/** Returns a value as JSON for an error message, cut to 120 characters. */
export function shown(value: unknown): string {
  let json: string;
  try {
    json = JSON.stringify(value) ?? 'nothing';
  } catch {
    // JSON.parse accepts deeper nesting than JSON.stringify, which is recursive.
    return 'a value nested too deeply to be shown';
  }
  return json.length > MAX_SHOWN ? `${json.slice(0, MAX_SHOWN)}…` : json;
}

/** An option or config key is unknown, missing or out of range; the message names it and the allowed values. */
export class ConfigError extends UserError {}

/** A dataset cannot be read; the message names the file and the row. */
export class DatasetError extends UserError {}

/** A model or adapter file cannot be used; the message names the file, the keys and both shapes. */
export class CheckpointError extends UserError {}

/** Training cannot continue; the message names the step, and how to resume from the latest checkpoint. */
export class TrainingError extends UserError {}

/** LibTorch rejected an operation; the message names the operator and the arguments' shapes and dtypes. */
export class TorchError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TorchError';
  }
}

/** Whether an error comes from a system call, such as a full disk or a missing permission. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}
