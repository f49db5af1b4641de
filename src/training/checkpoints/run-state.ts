/** @file Whether a run is going on in an output folder, as seen from outside. */
import { lstatSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { isSystemError } from '../../base/errors.js';
import { describeOwner, parseOwner, stateOf } from './lock-owner.js';
import { lockFile } from './run-lock.js';

/** How long the lock of another host may stay untouched; see run-lock.ts. */
const SILENT_MS = 90_000;

export interface RunState {
  isRunning: boolean;
  /** The process and host; undefined where the folder is not locked. */
  owner?: string;
  /** Of a run on this host. */
  pid?: number;
}

/** Returns whether a run has locked an output folder and is alive. It changes nothing. */
export function runStateOf(outputDir: string): RunState {
  const file = join(outputDir, lockFile);
  try {
    const owner = parseOwner(readlinkSync(file));
    if (owner === undefined) return { isRunning: false };
    const described = { owner: describeOwner(owner) };
    const state = stateOf(owner);
    if (state === 'gone') return { isRunning: false, ...described };
    if (state === 'running') return { isRunning: true, ...described, pid: owner.pid };
    // The clocks of two hosts may differ; a beat is 5 s.
    return { isRunning: Date.now() - lstatSync(file).mtimeMs < SILENT_MS, ...described };
  } catch (error) {
    if (isSystemError(error)) return { isRunning: false };
    throw error;
  }
}
