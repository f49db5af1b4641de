/** @file Addresses of remote shards. */
import { DatasetError } from '../base/errors.js';
import { hubUrl } from '../hub/repository.js';

/** Whether a dataset's name is an address. */
export function isRemote(name: string): boolean {
  return /^(https?|hf):\/\//i.test(name);
}

/**
 * Returns the address to request. `hf://datasets/org/name/path` is a file of a dataset on the Hub, with an optional revision:
 * `hf://datasets/org/name@main/path`.
 * @throws DatasetError for another address of the Hub
 */
export function httpAddress(address: string): string {
  if (!/^hf:/i.test(address)) return address;
  const [, repo, revision = 'main', path] =
    /^hf:\/\/(datasets\/[\w.-]+\/[\w.-]+)(?:@([^/]+))?\/(.+)$/i.exec(address) ?? [];
  if (repo === undefined)
    throw new DatasetError(`Expected hf://datasets/org/name/file.tar but received ${address}.`);
  return `${hubUrl()}/${repo}/resolve/${revision}/${path}`;
}

/** Returns the addresses in a list file: one a line; empty lines and lines that begin with # are skipped. */
export function addressesIn(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}
