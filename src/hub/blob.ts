/**
 * @file One file's content on its way into the cache: `blobs/<etag>` is complete and right, or absent. While it comes
 * it has another name, `<etag>.<host>.<process>.<random>.incomplete`, which tells other processes that somebody is at
 * it; `<etag>.incomplete`, or one of a process that is gone, is taken over by who comes next, and goes on at its end.
 */
import { createHash, randomBytes } from 'node:crypto';
import {
  createReadStream,
  existsSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { hostname } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { setTimeout } from 'node:timers/promises';
import { CheckpointError, UserError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import type { HubFile } from './repository.js';

export interface BlobDownload {
  /** The bytes from the given one on. */
  read(from: number): Promise<AsyncIterable<Uint8Array>>;
  /** So many bytes are there; `isNew` of them came over the network just now. */
  onBytes(bytes: number, isNew: number): void;
  /** Another process is at it, and we wait. */
  onWait(): void;
  signal?: AbortSignal | undefined;
  /** Before a connection is tried again; doubled each time that nothing came. */
  pauseMs?: number;
}

/** So often in a row may nothing come: with the pauses, about a minute. */
const MAX_FAILURES = 6;
const WAIT_MS = 500;
/** Who is at it writes more often than this; another process may have got the number of one that is gone. */
const STALE_MS = 600_000;

/** Files that this process is writing. */
const claims = new Set<string>();

/**
 * Brings a file to `blob`, unless it is there.
 * @throws CheckpointError where the Hub refuses, the connection stays away, or the content is not what it should be (it is
 * removed then); the signal's reason, and what has come is kept
 */
export async function downloadBlob(blob: string, file: HubFile, download: BlobDownload): Promise<void> {
  makeFolder(dirname(blob));
  let partial = claim(blob);
  if (partial === null) download.onWait();
  while (partial === null) {
    await setTimeout(WAIT_MS, undefined, { signal: download.signal });
    if (existsSync(blob)) return;
    partial = claim(blob);
  }
  try {
    await fill(partial, file, download);
    await verify(partial, file);
    renameSync(partial, blob);
  } finally {
    claims.delete(partial);
    if (existsSync(partial)) renameSync(partial, `${blob}.incomplete`);
  }
}

/** A file of our own to write to, with what others have left; null while another process, or call, is at it. */
function claim(blob: string): string | null {
  const claimed = /\.(?<host>[^/]+)\.(?<pid>\d+)\.[0-9a-f]{8}\.incomplete$/;
  const etag = basename(blob);
  const abandoned: string[] = [];
  for (const name of readdirSync(dirname(blob))) {
    if (!name.startsWith(`${etag}.`)) continue;
    const { host, pid } = claimed.exec(name.slice(etag.length))?.groups ?? {};
    if (name === `${etag}.incomplete`) abandoned.push(name);
    // Of another host nothing can be told: both load it then, and the second one's is the same.
    else if (host === hostname()) {
      if (isClaimed(join(dirname(blob), name), Number(pid))) return null;
      abandoned.push(name);
    }
  }
  const own = `${blob}.${hostname()}.${process.pid}.${randomBytes(4).toString('hex')}.incomplete`;
  claims.add(own);
  for (const name of abandoned)
    try {
      renameSync(join(dirname(blob), name), own);
      break;
    } catch (error) {
      // Another process was first.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  // At once, so that the next to look sees it.
  writeFileSync(own, '', { flag: 'a' });
  utimesSync(own, new Date(), new Date());
  return own;
}

function isClaimed(partial: string, pid: number): boolean {
  if (pid === process.pid) return claims.has(partial);
  const mtimeMs = statSync(partial, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (Date.now() - mtimeMs > STALE_MS) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: it is there, and is somebody else's.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Appends what is missing, over as many connections as that takes. */
async function fill(
  partial: string,
  file: HubFile,
  { read, onBytes, signal, pauseMs = 1000 }: BlobDownload,
): Promise<void> {
  const handle = await open(partial, 'a');
  try {
    let { size: from } = await handle.stat();
    for (let failures = 0; from < file.size; ) {
      const before = from;
      let reason = 'it ended early';
      try {
        for await (const chunk of await read(from)) {
          signal?.throwIfAborted();
          await handle.appendFile(chunk);
          from += chunk.length;
          onBytes(from, chunk.length);
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof UserError) throw error;
        reason = reasonOf(error);
      }
      if (from >= file.size) return;
      failures = from > before ? 0 : failures + 1;
      if (failures > MAX_FAILURES)
        throw new CheckpointError(
          `Expected ${file.size} bytes of ${file.path} from the Hub but the connection broke after ${from}: ${reason}; the next start goes on from there`,
        );
      await setTimeout(pauseMs * 2 ** failures, undefined, { signal });
    }
  } finally {
    await handle.close();
  }
}

/** The innermost cause: fetch itself says only that it failed. */
export function reasonOf(error: unknown): string {
  let cause = error;
  while (cause instanceof Error && cause.cause !== undefined) cause = cause.cause;
  return cause instanceof Error ? cause.message : String(cause);
}

/** As it is on the disk, so that earlier parts count too. */
async function verify(partial: string, { path, size, etag, isLfs }: HubFile): Promise<void> {
  const hash = createHash(isLfs ? 'sha256' : 'sha1');
  const found = statSync(partial).size;
  if (!isLfs) hash.update(`blob ${found}\0`);
  await pipeline(createReadStream(partial, { highWaterMark: 2 ** 20 }), hash);
  const digest = hash.digest('hex');
  if (found === size && digest === etag) return;
  rmSync(partial);
  throw new CheckpointError(
    `Expected ${size} bytes of hash ${etag} for ${path} from the Hub but received ${found} of hash ${digest}; they are removed, and the next start loads them afresh`,
  );
}
