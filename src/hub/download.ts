/** @file Models by name: what is not in the Hub's cache is downloaded into it, once, and only the files that are needed. */
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
  linkBlob,
  parseHubName,
  snapshotFolder,
} from './cache.js';
import { chosenGroup, isComplete, type ModelKind, type Need, neededFiles, shardsIn } from './model-files.js';
import { DownloadProgress } from './progress.js';
import { type HubFile, HubRepository, hubUrl } from './repository.js';

export interface DownloadHooks {
  /** Something happened that a person may want to know. */
  onMessage?: ((message: string) => void) | undefined;
  /** Ends a download with its reason; what has come is kept, and the next one goes on from there. */
  signal?: AbortSignal | undefined;
}

/**
 * Sees to it that `resolveModelPath(name)` has all files of the model. Does nothing for a path, and asks nobody where the
 * cache has them.
 * @throws CheckpointError where the Hub has no such model or does not give it, or cannot be reached; the signal's reason
 */
export async function ensureDownloaded(
  name: string,
  kind: ModelKind,
  hooks: DownloadHooks = {},
): Promise<void> {
  const hubName = existsSync(name) ? null : parseHubName(name);
  if (hubName === null) return;
  const { repo, inside } = hubName;
  const needs = neededFiles(kind, inside);
  const snapshot = cachedSnapshot(repo);
  if (snapshot !== null && isComplete(snapshot, needs)) return;
  const expected = `Expected a model at ${name} but there is no such folder or file, and the Hub's cache (${cacheFolder()}) does not have all of it`;
  if (/^(1|on|yes|true)$/i.test(process.env.HF_HUB_OFFLINE ?? ''))
    throw new CheckpointError(`${expected}; unset HF_HUB_OFFLINE to download it, or correct the path`);
  try {
    await download(repo, needs, hooks);
  } catch (cause) {
    hooks.signal?.throwIfAborted();
    const why =
      cause instanceof UserError ? cause.message : `${hubUrl()} cannot be reached: ${reasonOf(cause)}`;
    throw new CheckpointError(`${expected}. ${why}`, { cause });
  }
}

async function download(repo: string, needs: readonly Need[], hooks: DownloadHooks): Promise<void> {
  const repository = await HubRepository.open(repo, hooks.signal);
  // The commit that is here stays, so that all files of a model are of one, and a run is repeated with the same.
  let commit = cachedCommit(repo);
  if (commit === null) {
    commit = await repository.mainCommit();
    cacheCommit(repo, commit);
  }
  const listed = await repository.files(commit);
  const snapshot = snapshotFolder(repo, commit);
  const wanted = needs.flatMap((need) => groupOf(need, listed, repo));
  const fetchAll = (paths: readonly string[]): Promise<void> =>
    fetchFiles({ repo, commit, snapshot, repository }, lookUp(paths, listed, repo), hooks);
  await fetchAll(wanted);
  // Which shards there are is known when their index is there.
  const shards = wanted.flatMap((path) => shardsIn(snapshot, path));
  if (shards.length > 0) await fetchAll(shards);
}

function groupOf(need: Need, listed: ReadonlyMap<string, HubFile>, repo: string): readonly string[] {
  const group = chosenGroup(need, (path) => listed.has(path));
  if (group !== undefined) return group;
  const names = need.map((files) => files.join(' and ')).join(', or ');
  throw new CheckpointError(`Expected ${names} in the model ${repo} on the Hub but there is none`);
}

function lookUp(paths: readonly string[], listed: ReadonlyMap<string, HubFile>, repo: string): HubFile[] {
  return paths.map((path) => {
    const file = listed.get(path);
    if (file !== undefined) return file;
    throw new CheckpointError(
      `Expected ${path} in the model ${repo} on the Hub, as its index says, but there is none`,
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
    // Another commit or another path may have the same content.
    if (existsSync(blob)) linkBlob(blob, join(snapshot, path));
    return !existsSync(join(snapshot, path));
  });
  if (missing.length === 0) return;
  const bytes = missing.reduce((sum, { size }) => sum + size, 0);
  assertSpace(bytes, repo);
  const progress = new DownloadProgress(repo, missing.length, bytes, onMessage);
  for (const file of missing) {
    const blob = blobFile(repo, file.etag);
    await downloadBlob(blob, file, {
      read: (from) => repository.read(file, commit, from),
      onBytes: (there, isNew) => progress.update(file, there, isNew),
      onWait: () => onMessage?.(`${file.path} is being downloaded by another process: waiting for it`),
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
      `Expected ${(bytes / 1e9).toFixed(2)} GB of space for ${repo} in the Hub's cache ${folder} but ${((bavail * bsize) / 1e9).toFixed(2)} GB are free; make space, or set HF_HUB_CACHE to another folder`,
    );
}
