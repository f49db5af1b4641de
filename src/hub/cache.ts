/**
 * @file The Hub's local cache, shared with `hf download` and Python's libraries (huggingface_hub
 * `src/huggingface_hub/constants.py` and `file_download.py`):
 *
 *     models--org--name/refs/main             the cached commit of the main branch
 *     models--org--name/snapshots/<commit>/…  the repository's files, as links to blobs
 *     models--org--name/blobs/<etag>          file contents, named by hash
 */
import { existsSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { CheckpointError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';

/** A name on the Hub: `h94/IP-Adapter/models/image_encoder` is `models/image_encoder` in the repository `h94/IP-Adapter`. */
export interface HubName {
  repo: string;
  /** A file or folder in the repository; '' for the whole repository. */
  inside: string;
}

/** Parses a name on the Hub. Null where it can only be a path. */
export function parseHubName(name: string): HubName | null {
  const [, repo, inside = ''] = /^([\w.-]+\/[\w.-]+?)(?:\/(.+?))?\/?$/.exec(name) ?? [];
  const isPath = name.split('/').some((part) => part === '.' || part === '..');
  if (repo === undefined || isPath) return null;
  // The name of a file, probably misspelt.
  if (/\.(safetensors|ckpt|bin|pt)$/.test(repo)) return null;
  return { repo, inside };
}

/**
 * Returns the path of a model's folder or file.
 * @param name a path, or a name on the Hub, `org/name` with an optional folder or file in it, such as
 *   `h94/IP-Adapter/models/image_encoder`
 * @throws CheckpointError where there is no such path, and the model is not in the cache
 */
export function resolveModelPath(name: string): string {
  if (existsSync(name)) return name;
  const hubName = parseHubName(name);
  if (hubName === null)
    throw new CheckpointError(`Expected a model at ${name} but there is no such folder or file`);
  const { repo, inside } = hubName;
  const snapshot = cachedSnapshot(repo);
  if (snapshot === null)
    throw new CheckpointError(
      `Expected a model at ${name} but there is no such folder or file, and no model ${repo} in the Hub's cache (${cacheFolder()}); ` +
        `if it is a name on the Hub, download it first: hf download ${repo}${inside === '' ? '' : ` --include "${inside}/*"`}`,
    );
  const path = join(snapshot, inside);
  if (!existsSync(path))
    throw new CheckpointError(
      `Expected ${inside} in ${snapshot}, the Hub's cache of ${repo}, but it does not exist; download it: hf download ${repo} --include "${inside}/*"`,
    );
  return path;
}

/**
 * Returns the folder with the cached files of a repository's main branch; null where there is none.
 * @param repo 'org/name'
 */
export function cachedSnapshot(repo: string): string | null {
  const commit = cachedCommit(repo);
  if (commit === null) return null;
  const snapshot = snapshotFolder(repo, commit);
  return existsSync(snapshot) ? snapshot : null;
}

/** Returns the cached commit of a repository's main branch; null where there is none. */
export function cachedCommit(repo: string): string | null {
  const ref = mainRef(repo);
  return existsSync(ref) ? readFileSync(ref, 'utf8').trim() : null;
}

/** Records a commit as that of the main branch. */
export function cacheCommit(repo: string, commit: string): void {
  const ref = mainRef(repo);
  makeFolder(dirname(ref));
  // Atomically, so that another process never reads a part of it.
  const partial = `${ref}.${process.pid}.tmp`;
  writeFileSync(partial, commit);
  renameSync(partial, ref);
}

/** Returns the folder for the files of a commit, whether or not it exists. */
export function snapshotFolder(repo: string, commit: string): string {
  return join(repoFolder(repo), 'snapshots', commit);
}

/** Returns the file for the content with an etag, whether or not it exists. */
export function blobFile(repo: string, etag: string): string {
  return join(repoFolder(repo), 'blobs', etag);
}

/** Links a snapshot's file to a blob. The link is relative, so that the cache can be moved. */
export function linkBlob(blob: string, file: string): void {
  const folder = dirname(file);
  makeFolder(folder);
  try {
    symlinkSync(relative(folder, blob), file);
  } catch (error) {
    // Another process has created it.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

export function cacheFolder(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE } = process.env;
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(hubHome(), 'hub');
}

/** Returns the folder with the Hub's cache and token. */
export function hubHome(): string {
  const { HF_HOME, XDG_CACHE_HOME } = process.env;
  return HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
}

function repoFolder(repo: string): string {
  return join(cacheFolder(), `models--${repo.replace('/', '--')}`);
}

function mainRef(repo: string): string {
  return join(repoFolder(repo), 'refs', 'main');
}
