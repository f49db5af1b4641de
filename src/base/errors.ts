/**
 * @file The errors a user can meet. Each says what was expected, where, and what to do.
 * The command line ends with exit code 2 on any of them; anything else is a bug of ours.
 */

/** Names and values in a message can be a hostile file's, of any length; a message is for a terminal. */
const MAX_MESSAGE = 3000;
const MAX_SHOWN = 120;

/** Base of every error that a user can cause and mend. A message of more than 3000 characters loses its middle. */
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

/** A value from a file as JSON, cut to what fits on a line. */
export function shown(value: unknown): string {
  let json: string;
  try {
    json = JSON.stringify(value) ?? 'nothing';
  } catch {
    // JSON.stringify calls itself for what lies in a value, JSON.parse does not.
    return 'something nested too deeply to be shown';
  }
  return json.length > MAX_SHOWN ? `${json.slice(0, MAX_SHOWN)}…` : json;
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
