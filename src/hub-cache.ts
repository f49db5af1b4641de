/**
 * @file Models that are in the Hub's cache on this machine, where `hf download` and Python's libraries put them
 * (huggingface_hub `src/huggingface_hub/constants.py` and `file_download.py`): `models--org--name/refs/main` names a
 * commit, `snapshots/<commit>` holds the files. Nothing is downloaded here.
 */
import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { CheckpointError } from './errors.js';

/**
 * The folder or file that a user means.
 * @param name a path; or, where there is nothing at it, a name on the Hub, `org/name`, maybe with a folder in it:
 * `h94/IP-Adapter/models/image_encoder`
 * @throws CheckpointError where it is neither here nor in the cache
 */
export function resolveModelPath(name: string): string {
  if (existsSync(name)) return name;
  const [, repo, inside = ''] = /^([\w.-]+\/[\w.-]+)(?:\/(.+))?$/.exec(name) ?? [];
  if (repo === undefined || /^\.{1,2}\//.test(name))
    throw new CheckpointError(`Expected a model at ${name} but there is no such folder or file`);
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
  const folder = join(cacheFolder(), `models--${repo.replace('/', '--')}`);
  const ref = join(folder, 'refs', 'main');
  if (!existsSync(ref)) return null;
  const snapshot = join(folder, 'snapshots', readFileSync(ref, 'utf8').trim());
  return existsSync(snapshot) ? snapshot : null;
}

function cacheFolder(): string {
  const { HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE, HF_HOME, XDG_CACHE_HOME } = process.env;
  const home = HF_HOME || join(XDG_CACHE_HOME || join(homedir(), '.cache'), 'huggingface');
  return HF_HUB_CACHE || HUGGINGFACE_HUB_CACHE || join(home, 'hub');
}
