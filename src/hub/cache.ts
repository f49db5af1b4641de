/**
 * @file The Hub's cache on this machine, which we share with `hf download` and Python's libraries (huggingface_hub
 * `src/huggingface_hub/constants.py` and `file_download.py`):
 *
 *     models--org--name/refs/main             the commit that the main branch stands for here
 *     models--org--name/snapshots/<commit>/…  the repository's files, links to
 *     models--org--name/blobs/<etag>          their contents, named by hash
 */
import { existsSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { CheckpointError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';

/** A name on the Hub: `h94/IP-Adapter/models/image_encoder` is `models/image_encoder` inside of `h94/IP-Adapter`. */
export interface HubName {
  repo: string;
  /** A file or folder; '' for the whole repository. */
  inside: string;
}

/** Null where it cannot be one, but only a path. */
export function parseHubName(name: string): HubName | null {
  const [, repo, inside = ''] = /^([\w.-]+\/[\w.-]+?)(?:\/(.+?))?\/?$/.exec(name) ?? [];
  const isPath = name.split('/').some((part) => part === '.' || part === '..');
  if (repo === undefined || isPath) return null;
  // A file's name that is misspelt.
  if (/\.(safetensors|ckpt|bin|pt)$/.test(repo)) return null;
  return { repo, inside };
}

/**
 * The folder or file that a user means.
 * @param name a path; or, where there is nothing at it, a name on the Hub, `org/name`, maybe with a folder in it:
 * `h94/IP-Adapter/models/image_encoder`
 * @throws CheckpointError where it is neither here nor in the cache
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
      `Expected ${inside} in ${snapshot}, where the Hub's cache has ${repo}, but it is not there; download it: hf download ${repo} --include "${inside}/*"`,
    );
  return path;
}

/**
 * The cached files of a repository's main branch; null where there are none.
 * @param repo 'org/name'
 */
export function cachedSnapshot(repo: string): string | null {
  const commit = cachedCommit(repo);
  if (commit === null) return null;
  const snapshot = snapshotFolder(repo, commit);
  return existsSync(snapshot) ? snapshot : null;
}

/** The commit that stands for a repository's main branch here; null where none does. */
export function cachedCommit(repo: string): string | null {
  const ref = mainRef(repo);
  return existsSync(ref) ? readFileSync(ref, 'utf8').trim() : null;
}

/** From now on, the commit stands for the main branch here. */
export function cacheCommit(repo: string, commit: string): void {
  const ref = mainRef(repo);
  makeFolder(dirname(ref));
  // Another process must not read half of it.
  const partial = `${ref}.${process.pid}.tmp`;
  writeFileSync(partial, commit);
  renameSync(partial, ref);
}

/** Where the files of a commit are, whether or not it is there. */
export function snapshotFolder(repo: string, commit: string): string {
  return join(repoFolder(repo), 'snapshots', commit);
}

/** Where the content with an etag is, whether or not it is there. */
export function blobFile(repo: string, etag: string): string {
  return join(repoFolder(repo), 'blobs', etag);
}

/** Gives a blob its name in a snapshot. The link is relative, so that the cache can be moved. */
export function linkBlob(blob: string, file: string): void {
  const folder = dirname(file);
  makeFolder(folder);
  try {
    symlinkSync(relative(folder, blob), file);
  } catch (error) {
    // Another process was first.
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
  }
}

export function cacheFolder(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE } = process.env;
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(hubHome(), 'hub');
}

/** The folder of all that belongs to the Hub: the cache, and the token. */
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
