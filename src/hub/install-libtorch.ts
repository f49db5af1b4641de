/**
 * @file Installs a LibTorch from archives: downloads them, resuming where an earlier try ended, checks their SHA-256, and
 * unpacks libraries and headers. An installed folder is complete or absent, and `current` names the one in use.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, renameSync, rmSync, statfsSync } from 'node:fs';
import { hostname } from 'node:os';
import { basename, join } from 'node:path';
import { writeFileAtomically } from '../base/atomic-file.js';
import { CheckpointError, ConfigError, DatasetError, isSystemError } from '../base/errors.js';
import { formatBytes } from '../base/format-bytes.js';
import { makeFolder } from '../base/make-folder.js';
import { unzip } from '../formats/index.js';
import { downloadBlob } from './blob.js';
import { type HttpFile, probe, readFrom } from './http-file.js';
import { DownloadProgress } from './progress.js';
import type { TorchArchive } from './torch-archives.js';

export interface TorchInstallation {
  /** The folder of all installed LibTorchs. */
  folder: string;
  /** What it computes on: 'cpu', 'cu130'. It is a part of the folder's name. */
  backend: string;
  archives: readonly TorchArchive[];
  /** Throws where an unpacked folder does not have a LibTorch for this machine. */
  check(folder: string): void;
  onMessage?: ((message: string) => void) | undefined;
  /** Aborts the installation. Received bytes are kept, and the next one continues there. */
  signal?: AbortSignal | undefined;
  /** Pause before the second try to connect. */
  pauseMs?: number | undefined;
}

/** About three times CUDA's libraries. */
const MAX_UNPACKED_BYTES = 24 * 2 ** 30;
const DOWNLOADS = 'downloads';
const PARTIAL = '.partial';

/**
 * Installs a LibTorch, unless it is installed already, and makes it the one in use.
 * @returns its folder
 * @throws ConfigError where an archive cannot be had, is another one than its SHA-256 says, is damaged or hostile, or has no
 *   LibTorch for this machine; the system's error where the disk refuses; the signal's reason
 */
export async function installLibTorch(installation: TorchInstallation): Promise<string> {
  const { folder, backend, archives, check } = installation;
  const id = `${backend}-${idOf(archives)}`;
  const target = join(folder, id);
  try {
    if (!isUsable(target, check)) {
      makeFolder(folder);
      removeAbandoned(folder);
      const files = await download(installation);
      await unpack(files, target, installation);
      for (const file of files) rmSync(file, { force: true });
    }
    writeFileAtomically(join(folder, 'current'), (append) => append(Buffer.from(`${id}\n`)));
  } catch (cause) {
    // Their classes name datasets and models.
    if (cause instanceof DatasetError || cause instanceof CheckpointError)
      throw new ConfigError(`LibTorch ${backend} was not installed: ${cause.message}`, { cause });
    throw cause;
  }
  return target;
}

/** Returns the start of the SHA-256 of the only archive, or of all SHA-256. */
function idOf(archives: readonly TorchArchive[]): string {
  const [first, ...others] = archives.map(({ sha256 }) => sha256);
  const hash = createHash('sha256').update([first, ...others].join('\n'));
  return (others.length === 0 ? (first ?? '') : hash.digest('hex')).slice(0, 12);
}

/** Returns whether a folder has a usable LibTorch. One that somebody has deleted files from is removed. */
function isUsable(target: string, check: (folder: string) => void): boolean {
  if (!existsSync(target)) return false;
  try {
    check(target);
    return true;
  } catch {
    rmSync(target, { recursive: true });
    return false;
  }
}

async function download(installation: TorchInstallation): Promise<string[]> {
  const { folder, backend, archives, onMessage, signal, pauseMs } = installation;
  const blobs = archives.map(({ sha256 }) => join(folder, DOWNLOADS, sha256));
  const missing: [blob: string, sha256: string, file: HttpFile][] = [];
  for (const [i, { url, sha256 }] of archives.entries()) {
    const blob = blobs[i] as string;
    if (!existsSync(blob)) missing.push([blob, sha256, await probe(url, { signal, onMessage, pauseMs })]);
  }
  if (missing.length === 0) return blobs;
  const bytes = missing.reduce((sum, [, , { size }]) => sum + size, 0);
  assertSpace(bytes, folder, 'download');
  const progress = new DownloadProgress(`LibTorch ${backend}`, missing.length, bytes, onMessage);
  for (const [blob, sha256, file] of missing) {
    const path = decodeURIComponent(basename(new URL(file.url).pathname));
    const { host } = new URL(file.url);
    const digest = { of: 'file', hex: sha256 } as const;
    await downloadBlob(
      blob,
      { path, size: file.size, source: host, digest },
      {
        read: async (from) => readFrom(file, from, signal),
        onBytes: (size, received) => progress.update({ path, size: file.size }, size, received),
        onWait: () => onMessage?.(`Waiting for another process that is downloading ${path}`),
        signal,
        ...(pauseMs !== undefined && { pauseMs }),
      },
    );
  }
  progress.finish();
  return blobs;
}

async function unpack(
  files: readonly string[],
  target: string,
  { folder, check, onMessage, signal }: TorchInstallation,
): Promise<void> {
  const partial = `${target}.${hostname()}.${process.pid}${PARTIAL}`;
  rmSync(partial, { recursive: true, force: true });
  makeFolder(partial);
  try {
    for (const file of files)
      await unzip(file, partial, {
        isWanted,
        maxBytes: MAX_UNPACKED_BYTES,
        onSize: (bytes) => {
          assertSpace(bytes, folder, 'unpack');
          onMessage?.(`Unpacking ${formatBytes(bytes)}`);
        },
        signal,
      });
    check(partial);
    renameSync(partial, target);
  } catch (error) {
    // Another process has installed the same meanwhile.
    const isDone = isSystemError(error) && ['ENOTEMPTY', 'EEXIST'].includes(error.code ?? '');
    if (!isDone || !isUsable(target, check)) throw error;
  } finally {
    rmSync(partial, { recursive: true, force: true });
  }
}

/** Whether an entry of an archive is a header, or a library other than those for Python. */
function isWanted(name: string): boolean {
  const [, kind, path = ''] =
    /^(?:torch|libtorch|nvidia\/[^/]+)\/(include|lib)\/(.+)$/.exec(name) ??
    /^torch\.(lib)s\/(.+)$/.exec(name) ??
    [];
  if (kind === 'include') return true;
  return /\.(so|dylib)(\.\d+)*$/.test(path) && !/^lib(torch_python|shm)\./.test(path);
}

/** Removes what processes of this machine have left that were killed while they unpacked. */
function removeAbandoned(folder: string): void {
  for (const name of readdirSync(folder)) {
    const { host, pid } = /\.(?<host>[^/]+)\.(?<pid>\d+)\.partial$/.exec(name)?.groups ?? {};
    if (pid === undefined || host === undefined || !`${host}`.endsWith(hostname())) continue;
    if (!isRunning(Number(pid))) rmSync(join(folder, name), { recursive: true, force: true });
  }
}

function isRunning(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // EPERM: the process exists and belongs to another user.
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

function assertSpace(bytes: number, folder: string, what: string): void {
  const { bavail, bsize } = statfsSync(folder);
  if (bytes > bavail * bsize)
    throw new ConfigError(
      `Expected ${formatBytes(bytes)} of free space to ${what} LibTorch in ${folder} but there are ${formatBytes(bavail * bsize)}; free some space, or set IP_ADAPTER_CACHE to another folder`,
    );
}
