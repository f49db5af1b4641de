/**
 * @file Downloads one file into the cache. `blobs/<etag>` is either complete and verified, or absent. During the download the
 * file is named `<etag>.<host>.<process>.<random>.incomplete`, which shows other processes that it is being downloaded. An
 * interrupted download leaves `<etag>.incomplete`; the next download continues it, or one whose process has ended.
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

/** What is downloaded. */
export interface BlobContent {
  /** The name for messages. */
  readonly path: string;
  /** Where it comes from, for messages: 'the Hub'. */
  readonly source: string;
  /** In bytes. */
  readonly size: number;
  /** Its hash, of the file or as git has it; null where it is not known. */
  readonly digest: { readonly of: 'file' | 'git'; readonly hex: string } | null;
}

export interface BlobDownload {
  /** Requests the bytes from offset `from` on. */
  read(from: number): Promise<AsyncIterable<Uint8Array>>;
  /** Reports how many bytes the file has now, and how many of them were just received. */
  onBytes(bytes: number, received: number): void;
  /** Called when another process is downloading the file, before waiting for it. */
  onWait(): void;
  signal?: AbortSignal | undefined;
  /** Pause before a retry; doubled after each retry that received nothing. */
  pauseMs?: number;
}

/** Retries in a row that may receive nothing; with the pauses they take about a minute. */
const MAX_FAILURES = 6;
const WAIT_MS = 500;
/** An active download writes more often than this. An older file is stale even if its process id is in use again. */
const STALE_MS = 600_000;

/** Files that this process is downloading. */
const claims = new Set<string>();

/**
 * Downloads a file to `blob`. If another process is downloading it, waits for that.
 * @throws CheckpointError where the Hub refuses, the connection fails, or the content is wrong, which is then removed; the
 *   signal's reason, keeping what has been received
 */
export async function downloadBlob(blob: string, file: BlobContent, download: BlobDownload): Promise<void> {
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

/** Returns a new partial file, which continues an abandoned one if there is any; null while another process or call is downloading. */
function claim(blob: string): string | null {
  const claimed = /\.(?<host>[^/]+)\.(?<pid>\d+)\.[0-9a-f]{8}\.incomplete$/;
  const etag = basename(blob);
  const abandoned: string[] = [];
  for (const name of readdirSync(dirname(blob))) {
    if (!name.startsWith(`${etag}.`)) continue;
    const { host, pid } = claimed.exec(name.slice(etag.length))?.groups ?? {};
    if (name === `${etag}.incomplete`) abandoned.push(name);
    // Whether a process of another host is alive is unknown; both download then, with the same result.
    else if (host === hostname()) {
      if (isClaimed(join(dirname(blob), name), Number(pid))) return null;
      abandoned.push(name);
    }
  }
  const partial = `${blob}.${hostname()}.${process.pid}.${randomBytes(4).toString('hex')}.incomplete`;
  claims.add(partial);
  for (const name of abandoned)
    try {
      renameSync(join(dirname(blob), name), partial);
      break;
    } catch (error) {
      // Another process took it over first.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  // Updated at once, so that other processes see the claim.
  writeFileSync(partial, '', { flag: 'a' });
  utimesSync(partial, new Date(), new Date());
  return partial;
}

function isClaimed(partial: string, pid: number): boolean {
  if (pid === process.pid) return claims.has(partial);
  const mtimeMs = statSync(partial, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  if (Date.now() - mtimeMs > STALE_MS) return false;
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: the process exists and belongs to another user.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Appends the missing bytes, reconnecting as often as needed. */
async function fill(
  partial: string,
  file: BlobContent,
  { read, onBytes, signal, pauseMs = 1000 }: BlobDownload,
): Promise<void> {
  const handle = await open(partial, 'a');
  try {
    let { size: from } = await handle.stat();
    for (let failures = 0; from < file.size; ) {
      const start = from;
      let reason = 'it ended early';
      try {
        for await (const chunk of await read(from)) {
          signal?.throwIfAborted();
          await handle.appendFile(chunk).catch((cause: Error) => failToWrite(partial, cause));
          from += chunk.length;
          onBytes(from, chunk.length);
        }
      } catch (error) {
        signal?.throwIfAborted();
        if (error instanceof UserError) throw error;
        reason = reasonOf(error);
      }
      if (from >= file.size) return;
      failures = from > start ? 0 : failures + 1;
      if (failures > MAX_FAILURES)
        throw new CheckpointError(
          `Expected ${file.size} bytes of ${file.path} from ${file.source} but the connection broke after ${from}: ${reason}; start again to continue from there`,
        );
      await setTimeout(pauseMs * 2 ** failures, undefined, { signal });
    }
  } finally {
    await handle.close();
  }
}

/** Another try to connect does not help here. */
function failToWrite(partial: string, cause: Error): never {
  throw new CheckpointError(
    `${partial} could not be written: ${cause.message}; make room on its disk, and start again to continue from there`,
    { cause },
  );
}

/** Returns the message of the innermost cause; fetch's own message says only that it failed. */
export function reasonOf(error: unknown): string {
  let cause = error;
  while (cause instanceof Error && cause.cause !== undefined) cause = cause.cause;
  return cause instanceof Error ? cause.message : String(cause);
}

/** Verifies the file on disk, including what earlier runs downloaded. */
async function verify(partial: string, { path, source, size, digest }: BlobContent): Promise<void> {
  const actualSize = statSync(partial).size;
  const hex = digest === null ? undefined : await hashOf(partial, digest.of, actualSize);
  if (actualSize === size && hex === digest?.hex) return;
  rmSync(partial);
  const withHash = (value: string | undefined): string => (value === undefined ? '' : ` with hash ${value}`);
  throw new CheckpointError(
    `Expected ${size} bytes${withHash(digest?.hex)} for ${path} from ${source} but received ${actualSize}${withHash(hex)}; they have been deleted, start again to download the file again`,
  );
}

async function hashOf(file: string, of: 'file' | 'git', size: number): Promise<string> {
  const hash = createHash(of === 'file' ? 'sha256' : 'sha1');
  if (of === 'git') hash.update(`blob ${size}\0`);
  await pipeline(createReadStream(file, { highWaterMark: 2 ** 20 }), hash);
  return hash.digest('hex');
}
