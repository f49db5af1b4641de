/**
 * @file The errors a user can meet. Each says what was expected, where, and what to do.
 * The command line ends with exit code 2 on any of them; anything else is a bug of ours.
 */

/** Base of every error that a user can cause and mend. */
export class UserError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = new.target.name;
  }
}

/** An option is unknown, missing or out of range; the message names the option and what it takes. */
export class ConfigError extends UserError {}

/** A dataset cannot be read; the message names the file and the row. */
export class DatasetError extends UserError {}

/** A model or adapter file cannot be used; the message names the file, the keys and both shapes. */
export class CheckpointError extends UserError {}

/** Training cannot go on; the message names the step, and how to go on from the newest checkpoint. */
export class TrainingError extends UserError {}

/** LibTorch refused an operation; the message names the operator and the arguments' shapes and dtypes. */
export class TorchError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'TorchError';
  }
}

/** Whether the system refused something: no room, no permission, a disk that fails. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}
