/**
 * @file Requests to a training run from outside: the folder `control` of its output folder, in which each is a file of JSON that
 * appears whole. The run reads it after every step, and removes what it has done.
 *
 *     control/<milliseconds>-<uuid>.json     {"request": "extend", "steps": 1000}
 *     control/rejected/                      files that are not requests, or came when no run was there
 */
import { randomUUID } from 'node:crypto';
import {
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  type Stats,
  statSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { writeFileAtomically } from './atomic-file.js';
import { isSystemError } from './errors.js';
import { makeFolder } from './make-folder.js';

export const requestNames = ['sample', 'save', 'stop', 'extend'] as const;

const steps = z.int('must be a whole number').min(1, 'must be at least 1').max(1e9, 'must be at most 1e9');

/**
 * `sample`: draw the validation images and measure the held-out rows; `save`: write a checkpoint; `stop`: end with a checkpoint;
 * `extend`: train so many steps more than planned.
 */
export const requestSchema = z.discriminatedUnion('request', [
  z.strictObject({ request: z.enum(['sample', 'save', 'stop']) }),
  z.strictObject({ request: z.literal('extend'), steps }),
]);

export type SteeringRequest = z.infer<typeof requestSchema>;

/** A request without a step is a few words; anything larger is something else. */
const MAX_BYTES = 4096;
/** More are left for the next step: a run must not stand still because of them. */
const MAX_AT_ONCE = 64;
const requestFile = /^\d+-[\w-]+\.json$/;

function controlFolder(outputDir: string): string {
  return join(outputDir, 'control');
}

/**
 * Asks the run of an output folder for something. @returns the request's id, which the run's event repeats
 * @throws the system's error where the folder cannot be written
 */
export function writeRequest(outputDir: string, request: SteeringRequest): string {
  const folder = controlFolder(outputDir);
  try {
    mkdirSync(folder, { mode: 0o700 });
  } catch (error) {
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw error;
  }
  const id = `${Date.now()}-${randomUUID()}`;
  const text = Buffer.from(`${JSON.stringify(requestSchema.parse(request))}\n`);
  writeFileAtomically(join(folder, `${id}.json`), (append) => append(text));
  return id;
}

/** Whether a run has requests to read. It takes microseconds. */
export function hasRequests(outputDir: string): boolean {
  return requestNamesIn(outputDir).length > 0;
}

/**
 * Reads and removes the requests of a run, the earliest first. What is not a request is moved to `control/rejected`.
 * @param onReject is told what was wrong, in a sentence
 */
export function takeRequests(
  outputDir: string,
  onReject: (text: string) => void,
): (SteeringRequest & { id: string })[] {
  const folder = controlFolder(outputDir);
  return requestNamesIn(outputDir)
    .sort()
    .slice(0, MAX_AT_ONCE)
    .flatMap((name) => {
      const file = join(folder, name);
      try {
        const request = readRequest(file);
        rmSync(file);
        return [{ ...request, id: name.replace(/\.json$/, '') }];
      } catch (error) {
        onReject(`${file} is not a request to this run: ${faultOf(error)}. ${reject(folder, name)}`);
        return [];
      }
    });
}

/** Moves requests aside that no run was there for. @returns how many */
export function rejectLeftovers(outputDir: string): number {
  const folder = controlFolder(outputDir);
  const names = requestNamesIn(outputDir);
  for (const name of names) reject(folder, name);
  return names.length;
}

function requestNamesIn(outputDir: string): string[] {
  const folder = controlFolder(outputDir);
  // Most runs are never steered: an error would cost more than a look.
  const status: Stats | undefined = statSync(folder, { throwIfNoEntry: false });
  if (!status?.isDirectory()) return [];
  try {
    return readdirSync(folder).filter((name) => requestFile.test(name));
  } catch (error) {
    // A run goes on without what it may not read.
    if (isSystemError(error)) return [];
    throw error;
  }
}

function readRequest(file: string): SteeringRequest {
  const status = lstatSync(file);
  if (!status.isFile()) throw new Error('it is not a regular file');
  if (status.size > MAX_BYTES) throw new Error(`it has ${status.size} bytes, more than ${MAX_BYTES}`);
  return requestSchema.parse(JSON.parse(readFileSync(file, 'utf8')));
}

function faultOf(error: unknown): string {
  if (error instanceof z.ZodError)
    return error.issues.map(({ path, message }) => [...path, message].join(' ')).join('; ');
  return (error as Error).message;
}

/** @returns what became of the file, as a sentence */
function reject(folder: string, name: string): string {
  const rejected = join(folder, 'rejected');
  try {
    makeFolder(rejected);
    renameSync(join(folder, name), join(rejected, name));
    return `It is in ${rejected} now`;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return `It could not be moved away: ${error.message}`;
  }
}
