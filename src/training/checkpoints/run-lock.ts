/**
 * @file Locks an output folder for one run at a time. The lock is a symbolic link whose target is the owner as JSON. A link
 * is created in one step, so a lock is never incomplete, even if the process is killed.
 *
 *     .lock          the lock
 *     .lock.<uuid>   a claim: a process reads the lock and may change it
 *
 * The lock of a killed process is replaced. No two processes may do that at the same time. So each one first creates a claim,
 * then lists the claims, and removes its own if it sees another one. Of two processes, the one whose claim is later sees the
 * earlier claim, so at most one process sees no other claim. The names of claims are never reused, so any process can remove
 * the claim of a killed process.
 *
 * If process ids cannot be compared (another host or container), the modification time of the lock is the sign of life: a
 * thread updates it every few seconds. Only changes of it are observed, so the clocks of the hosts may differ.
 */
import { randomUUID } from 'node:crypto';
import {
  accessSync,
  constants,
  lstatSync,
  readdirSync,
  readlinkSync,
  rmdirSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { ConfigError, isSystemError, TrainingError } from '../../base/errors.js';
import { makeFolder } from '../../base/make-folder.js';
import { describeOwner, ownLockText, parseOwner, stateOf } from './lock-owner.js';

export const lockFile = '.lock';

/** How long a lock is watched. Network file systems may show a modification time that is a minute old. */
const WATCH_MS = 90_000;
const BEAT_MS = 5_000;
/** How often the folder may disappear while it is being locked. */
const MAX_MISSING = 100;

export interface RunLock extends Disposable {
  /** @throws TrainingError if another run has taken over the lock, because this one gave no sign of life for too long */
  assertHeld(): void;
}

export interface LockContext {
  onMessage?: ((message: string) => void) | undefined;
  /** Stops the watching of another run's lock. */
  signal?: AbortSignal | undefined;
  /** How long a lock of another host is watched for a sign of life, in ms. Default: 90 000 */
  watchMs?: number;
  /** The time between two signs of life, in ms. Default: 5000 */
  beatMs?: number;
}

/**
 * Creates the output folder if it is missing, and locks it until disposed. Disposing also removes the folder and its parents
 * that were created, if they are empty.
 * @throws ConfigError where another run has locked the folder, or it is not writable
 */
export async function lockRun(outputDir: string, context: LockContext = {}): Promise<RunLock> {
  const file = join(outputDir, lockFile);
  const ownText = ownLockText();
  /** The topmost folder that was created. */
  let created: string | undefined;
  /** The text of a lock that was watched and showed no sign of life. */
  let silent: string | undefined;
  for (let missing = 0; ; ) {
    try {
      created = makeFolder(outputDir) ?? created;
      accessSync(outputDir, constants.W_OK);
    } catch (error) {
      throw notWritable(outputDir, error as Error);
    }
    try {
      const unseen = await withClaim(outputDir, ownText, context, () =>
        takeLock(outputDir, ownText, silent, context),
      );
      if (unseen === undefined) break;
      silent = await watch(file, unseen, context);
    } catch (error) {
      if (!isSystemError(error)) throw error;
      // A run that has just ended may have removed the folder.
      if (error.code !== 'ENOENT' || ++missing === MAX_MISSING) throw notWritable(outputDir, error);
    }
  }
  const heart = startHeart(file, context);
  return {
    assertHeld: () => {
      const text = readLock(file);
      if (text === undefined || text === ownText) return;
      const owner = parseOwner(text);
      throw new TrainingError(
        `${outputDir} was taken over by ${owner === undefined ? 'another run' : describeOwner(owner)}, because this run gave no sign of life for a while. This run writes nothing more`,
      );
    },
    [Symbol.dispose]: () => {
      void heart.terminate();
      try {
        if (readLock(file) === ownText) rmSync(file, { force: true });
      } catch (error) {
        // If the lock stays, the next run replaces it, since this process is gone by then.
        if (!isSystemError(error)) throw error;
      }
      if (created !== undefined) removeEmpty(outputDir, created);
    },
  };
}

/** Returns whether a run may be using the folder. It is not watched: an owner that cannot be checked from here counts as running. */
export function isLocked(outputDir: string): boolean {
  const text = readLock(join(outputDir, lockFile));
  if (text === undefined) return false;
  const owner = parseOwner(text);
  return owner === undefined || stateOf(owner) !== 'gone';
}

function notWritable(outputDir: string, cause: Error): ConfigError {
  return new ConfigError(
    `Expected a writable folder for --output-dir (outputDir) but received ${outputDir}: ${cause.message.split(', ')[0]}`,
    { cause },
  );
}

/** Runs `work` while no other process runs its own. */
async function withClaim<T>(
  outputDir: string,
  ownText: string,
  { signal, watchMs = WATCH_MS }: LockContext,
  work: () => T,
): Promise<T> {
  const started = performance.now();
  for (;;) {
    const claim = `${lockFile}.${randomUUID()}`;
    symlinkSync(ownText, join(outputDir, claim));
    let other: string | undefined;
    try {
      other = otherClaim(outputDir, claim);
      if (other === undefined) return work();
    } finally {
      rmSync(join(outputDir, claim), { force: true });
    }
    if (performance.now() - started > watchMs)
      throw new ConfigError(
        `${outputDir} is in use: ${join(outputDir, other)} has existed for a while. If no run uses the folder, delete that file`,
      );
    // A random delay, so that two processes do not collide again and again.
    await sleep(1 + 20 * Math.random());
    signal?.throwIfAborted();
  }
}

/** Returns a claim of another process that may be running, and removes claims of processes that are not. */
function otherClaim(outputDir: string, ownClaim: string): string | undefined {
  const claims = readdirSync(outputDir).filter((name) => name.startsWith(`${lockFile}.`));
  return claims.find((name) => {
    if (name === ownClaim) return false;
    const text = readLock(join(outputDir, name));
    if (text === undefined) return false;
    const owner = parseOwner(text);
    if (owner === undefined || stateOf(owner) !== 'gone') return true;
    rmSync(join(outputDir, name), { force: true });
    return false;
  });
}

/**
 * Takes the lock if it is free or its owner is gone.
 * @param silent the text of a lock whose owner counts as gone
 * @returns undefined if the lock was taken; the text of the lock if its owner cannot be checked from this host
 * @throws ConfigError if the owner is running
 */
function takeLock(
  outputDir: string,
  ownText: string,
  silent: string | undefined,
  { onMessage }: LockContext,
): string | undefined {
  const file = join(outputDir, lockFile);
  const text = readLock(file);
  if (text !== undefined) {
    const owner = parseOwner(text);
    if (owner === undefined) throw notALock(outputDir);
    const state = text === silent ? 'gone' : stateOf(owner);
    if (state === 'unseen') return text;
    if (state !== 'gone') throw inUse(outputDir, text);
    rmSync(file, { force: true });
    onMessage?.(`${outputDir} was in use by ${describeOwner(owner)}, which was killed`);
  }
  symlinkSync(ownText, file);
  return undefined;
}

function inUse(outputDir: string, text: string): ConfigError {
  const owner = parseOwner(text);
  if (owner === undefined) return notALock(outputDir);
  return new ConfigError(
    `${outputDir} is in use by ${describeOwner(owner)}. Wait until it ends, or use another --output-dir; if that process is not a training run, delete ${join(outputDir, lockFile)}`,
  );
}

function notALock(outputDir: string): ConfigError {
  const file = join(outputDir, lockFile);
  return new ConfigError(
    `Expected the lock of a run at ${file} but it is something else. If no run uses ${outputDir}, delete that file`,
  );
}

/**
 * Watches the lock of an owner on another host for a sign of life.
 * @returns the text of the lock if there was none; undefined if the lock has changed
 * @throws ConfigError if there was a sign of life
 */
async function watch(
  file: string,
  text: string,
  { onMessage, signal, watchMs = WATCH_MS, beatMs = BEAT_MS }: LockContext,
): Promise<string | undefined> {
  const owner = parseOwner(text);
  const seconds = Math.ceil(watchMs / 1000);
  if (owner !== undefined)
    onMessage?.(
      `${dirname(file)} is locked by ${describeOwner(owner)}, which cannot be checked from this host: watching its lock for up to ${seconds} s`,
    );
  const changedAt = (): bigint | undefined =>
    lstatSync(file, { bigint: true, throwIfNoEntry: false })?.mtimeNs;
  const first = changedAt();
  for (const started = performance.now(); performance.now() - started < watchMs; ) {
    await sleep(Math.min(1000, beatMs));
    signal?.throwIfAborted();
    // The lock was released, or belongs to another run now: check it again.
    if (readLock(file) !== text) return undefined;
    if (changedAt() !== first) throw inUse(dirname(file), text);
  }
  return text;
}

/** Starts a thread that updates the lock's modification time. The main thread may be blocked by LibTorch for long. */
function startHeart(file: string, { onMessage, beatMs = BEAT_MS }: LockContext): Worker {
  const code = `
    const { lutimesSync } = require('node:fs');
    const { file, beatMs } = require('node:worker_threads').workerData;
    setInterval(() => { try { const now = Date.now() / 1000; lutimesSync(file, now, now); } catch {} }, beatMs);`;
  const heart = new Worker(code, {
    eval: true,
    execArgv: [],
    workerData: { file: resolve(file), beatMs },
    resourceLimits: { maxOldGenerationSizeMb: 16, maxYoungGenerationSizeMb: 1, codeRangeSizeMb: 8 },
  });
  heart.on('error', ({ message }) =>
    onMessage?.(`${file} no longer shows a sign of life to other hosts: ${message}`),
  );
  heart.unref();
  return heart;
}

/** Removes a folder and its parents, up to `last`, as long as they are empty. */
function removeEmpty(folder: string, last: string): void {
  for (let path = resolve(folder); ; path = dirname(path)) {
    try {
      rmdirSync(path);
    } catch (error) {
      if (isSystemError(error)) return;
      throw error;
    }
    if (path === resolve(last)) return;
  }
}

/** Returns the text of a lock; undefined if there is none; '' for a file that is not a link, which no lock has. */
function readLock(file: string): string | undefined {
  try {
    return readlinkSync(file);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return undefined;
    if (code === 'EINVAL') return '';
    throw error;
  }
}
