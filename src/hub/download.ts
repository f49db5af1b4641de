/** @file Downloads a model's missing files from the Hub into the cache. */
import { existsSync, statfsSync } from 'node:fs';
import { join } from 'node:path';
import { CheckpointError, UserError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import { downloadBlob, reasonOf } from './blob.js';
import {
  blobFile,
  cacheCommit,
  cachedCommit,
  cachedSnapshot,
  cacheFolder,
  type HubName,
  linkBlob,
  parseHubName,
  snapshotFolder,
} from './cache.js';
import {
  chosenGroup,
  indexFile,
  isComplete,
  type ModelKind,
  type Need,
  neededFiles,
  shardsIn,
} from './model-files.js';
import { DownloadProgress } from './progress.js';
import { type HubFile, HubRepository, hubUrl } from './repository.js';

export interface DownloadHooks {
  /** Receives progress messages. */
  onMessage?: ((message: string) => void) | undefined;
  /** Aborts a download, which throws the signal's reason. Received bytes are kept, and the next download continues there. */
  signal?: AbortSignal | undefined;
}

/**
 * Downloads a model unless `name` is a path, so that `resolveModelPath(name)` has all its files. A completely cached model
 * needs no network.
 * @throws CheckpointError where the Hub does not have the model, refuses it, or cannot be reached; the signal's reason
 */
export async function ensureDownloaded(
  name: string,
  kind: ModelKind,
  hooks: DownloadHooks = {},
): Promise<void> {
  const hubName = existsSync(name) ? null : parseHubName(name);
  if (hubName === null) return;
  const { repo, inside } = hubName;
  const snapshot = cachedSnapshot(repo);
  if (snapshot !== null && isComplete(snapshot, neededFiles(kind, inside, snapshot))) return;
  const expected = `Expected a model at ${name} but there is no such folder or file, and the Hub's cache (${cacheFolder()}) does not have all of its files`;
  if (/^(1|on|yes|true)$/i.test(process.env.HF_HUB_OFFLINE ?? ''))
    throw new CheckpointError(`${expected}; unset HF_HUB_OFFLINE to download it, or correct the path`);
  try {
    await download(hubName, kind, hooks);
  } catch (cause) {
    hooks.signal?.throwIfAborted();
    const why =
      cause instanceof UserError ? cause.message : `${hubUrl()} cannot be reached: ${reasonOf(cause)}`;
    throw new CheckpointError(`${expected}. ${why}`, { cause });
  }
}

async function download({ repo, inside }: HubName, kind: ModelKind, hooks: DownloadHooks): Promise<void> {
  const repository = await HubRepository.open(repo, hooks.signal);
  // A cached commit is kept, so that all files of a model belong to one commit and runs can be repeated.
  let commit = cachedCommit(repo);
  if (commit === null) {
    commit = await repository.mainCommit();
    cacheCommit(repo, commit);
  }
  const remoteFiles = await repository.files(commit);
  const snapshot = snapshotFolder(repo, commit);
  const source = { repo, commit, snapshot, repository };
  const fetchAll = (names: readonly string[], reported = hooks): Promise<void> =>
    fetchFiles(source, lookUp(names, remoteFiles, repo), reported);
  const index = indexFile(kind, inside);
  // A few hundred bytes, which are not worth a message.
  if (index !== null && remoteFiles.has(index)) await fetchAll([index], { signal: hooks.signal });
  const needs = neededFiles(kind, inside, snapshot);
  const paths = needs.flatMap((need) => groupOf(need, remoteFiles, repo));
  await fetchAll(paths);
  // The shards are known once their index is downloaded.
  const shards = paths.flatMap((path) => shardsIn(snapshot, path));
  if (shards.length > 0) await fetchAll(shards);
}

function groupOf(need: Need, remoteFiles: ReadonlyMap<string, HubFile>, repo: string): readonly string[] {
  const group = chosenGroup(need, (path) => remoteFiles.has(path));
  if (group !== undefined) return group;
  const names = need.map((files) => files.join(' and ')).join(', or ');
  throw new CheckpointError(`Expected ${names} in the model ${repo} on the Hub but it does not exist`);
}

function lookUp(
  paths: readonly string[],
  remoteFiles: ReadonlyMap<string, HubFile>,
  repo: string,
): HubFile[] {
  return paths.map((path) => {
    const file = remoteFiles.get(path);
    if (file !== undefined) return file;
    throw new CheckpointError(
      `Expected ${path} in the model ${repo} on the Hub, which its index lists, but it does not exist`,
    );
  });
}

interface Source {
  repo: string;
  commit: string;
  snapshot: string;
  repository: HubRepository;
}

async function fetchFiles(
  { repo, commit, snapshot, repository }: Source,
  files: readonly HubFile[],
  { onMessage, signal }: DownloadHooks,
): Promise<void> {
  const missing = files.filter(({ path, etag }) => {
    const blob = blobFile(repo, etag);
    // The same content may already be cached for another commit or path.
    if (existsSync(blob)) linkBlob(blob, join(snapshot, path));
    return !existsSync(join(snapshot, path));
  });
  if (missing.length === 0) return;
  const bytes = missing.reduce((sum, { size }) => sum + size, 0);
  assertSpace(bytes, repo);
  const progress = new DownloadProgress(repo, missing.length, bytes, onMessage);
  for (const file of missing) {
    const blob = blobFile(repo, file.etag);
    const { path, size, etag, isLfs } = file;
    const content = {
      path,
      size,
      source: 'the Hub',
      digest: { of: isLfs ? 'file' : 'git', hex: etag },
    } as const;
    await downloadBlob(blob, content, {
      read: (from) => repository.read(file, commit, from),
      onBytes: (bytes, received) => progress.update(file, bytes, received),
      onWait: () => onMessage?.(`Waiting for another process that is downloading ${file.path}`),
      signal,
    });
    linkBlob(blob, join(snapshot, file.path));
  }
  progress.finish();
}

function assertSpace(bytes: number, repo: string): void {
  const folder = cacheFolder();
  makeFolder(folder);
  const { bavail, bsize } = statfsSync(folder);
  if (bytes > bavail * bsize)
    throw new CheckpointError(
      `Expected ${(bytes / 1e9).toFixed(2)} GB of free space for ${repo} in the Hub's cache ${folder} but there are ${((bavail * bsize) / 1e9).toFixed(2)} GB; free some space, or set HF_HUB_CACHE to another folder`,
    );
}
