/**
 * @file One run at a time in an output folder. The lock is a symbolic link whose target is the owner as JSON: it is made
 * in one step, so it is never half written, whatever the moment of a kill.
 *
 *     .lock          the lock
 *     .lock.<uuid>   a claim: a process is looking at the lock and may change it
 *
 * The lock of a process that was killed is replaced. For that, no two processes may look at it and change it at the same
 * time, so each makes a claim first, then lists the claims, and gives its own back where it sees another's. Of two
 * processes the one that made its claim later sees the other's, so at most one sees none. Claims have names that are
 * never used again: one of a process that was killed can be removed by anybody, without harm to another's.
 *
 * Where process ids mean nothing (another host or container), the lock's time of change is the sign of life: a thread
 * of its own sets it every few seconds. It is only looked at whether it changes, so clocks may differ.
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

/** A network file system may show a time that is a minute old. */
const WATCH_MS = 90_000;
const BEAT_MS = 5_000;
/** Times that the folder may vanish while it is being locked. */
const MAX_MISSING = 100;

export interface RunLock extends Disposable {
  /** @throws TrainingError where another run has taken the lock over: this one had given no sign of life for too long */
  assertHeld(): void;
}

export interface LockContext {
  onMessage?: ((message: string) => void) | undefined;
  /** Ends the watching of another's lock. */
  signal?: AbortSignal | undefined;
  /** How long a lock of another host is watched for a sign of life. Default: 90 s */
  watchMs?: number;
  /** Time between two signs of life. Default: 5 s */
  beatMs?: number;
}

/**
 * Makes the output folder where it is missing, and locks it until disposed. Disposing takes the folder away again, and
 * what was made around it, where nothing was written into it.
 * @throws ConfigError where another run has it, or where it cannot be written in
 */
export async function lockRun(outputDir: string, context: LockContext = {}): Promise<RunLock> {
  const file = join(outputDir, lockFile);
  const ownText = ownLockText();
  let made: string | undefined;
  /** The text of a lock that was watched, and has shown no sign of life. */
  let silent: string | undefined;
  for (let missing = 0; ; ) {
    try {
      made = makeFolder(outputDir) ?? made;
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
      // A run that has just ended may have taken the folder away again.
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
        `${outputDir} was taken over by ${owner === undefined ? 'another run' : describeOwner(owner)}: this run had shown no sign of life for a while. It writes nothing more`,
      );
    },
    [Symbol.dispose]: () => {
      void heart.terminate();
      try {
        if (readLock(file) === ownText) rmSync(file, { force: true });
      } catch (error) {
        // Where it stays, it is that of a process that is gone, and is taken over.
        if (!isSystemError(error)) throw error;
      }
      if (made !== undefined) removeEmpty(outputDir, made);
    },
  };
}

function notWritable(outputDir: string, cause: Error): ConfigError {
  return new ConfigError(
    `Expected a folder to write in for --output-dir (outputDir) but received ${outputDir}: ${cause.message.split(', ')[0]}`,
    { cause },
  );
}

/** Runs `work` while no other process can be in its own. */
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
        `${outputDir} is in use: ${join(outputDir, other)} has been there for a while. If no run uses the folder, delete it`,
      );
    // As many attempts as two processes need not to meet again.
    await sleep(1 + 20 * Math.random());
    signal?.throwIfAborted();
  }
}

/** A claim of another process that may run; claims of those that do not are removed. */
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
 * Takes the lock where it is free or its owner is gone.
 * @param silent the text of a lock whose owner counts as gone
 * @returns undefined where it was taken; the text of the lock where its owner cannot be seen from here
 * @throws ConfigError where the owner runs
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
    `${outputDir} is in use by ${describeOwner(owner)}. Wait for its end, or give another --output-dir; if that process is not a training run, delete ${join(outputDir, lockFile)}`,
  );
}

function notALock(outputDir: string): ConfigError {
  const file = join(outputDir, lockFile);
  return new ConfigError(
    `Expected the lock of a run at ${file} but it is something else. If no run uses ${outputDir}, delete it`,
  );
}

/**
 * Watches the lock of an owner on another host for a sign of life.
 * @returns its text, where there was none
 * @throws ConfigError where there was one
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
      `${dirname(file)} is locked by ${describeOwner(owner)}, which cannot be seen from here: its lock is watched for up to ${seconds} s`,
    );
  const changedAt = (): bigint | undefined =>
    lstatSync(file, { bigint: true, throwIfNoEntry: false })?.mtimeNs;
  const first = changedAt();
  for (const started = performance.now(); performance.now() - started < watchMs; ) {
    await sleep(Math.min(1000, beatMs));
    signal?.throwIfAborted();
    // Released, or of another run by now: it is looked at anew.
    if (readLock(file) !== text) return undefined;
    if (changedAt() !== first) throw inUse(dirname(file), text);
  }
  return text;
}

/** Sets the lock's time of change again and again, in a thread of its own: the engine holds this one for long. */
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
    onMessage?.(`${file} shows no sign of life to other hosts any more: ${message}`),
  );
  heart.unref();
  return heart;
}

/** Removes a folder and those around it, up to `last`, as far as they are empty. */
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

/** The text of a lock; undefined where there is none. What is not a link has a text that no lock has. */
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
