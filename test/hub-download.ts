/** @file A Hub server and an empty cache for each test of a file, with one repository that tests download from. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, vi } from 'vitest';
import { resolveModelPath } from '../src/hub/cache.js';
import { HubServer } from './hub-server.js';

export let hub: HubServer;
export let root: string;
beforeEach(async () => {
  hub = new HubServer();
  const url = await hub.start();
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-download-'));
  for (const name of ['HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE', 'HF_TOKEN', 'HF_TOKEN_PATH', 'HF_HUB_OFFLINE'])
    vi.stubEnv(name, '');
  vi.stubEnv('HF_HOME', root);
  vi.stubEnv('HF_ENDPOINT', `${url}/`);
});
afterEach(() => {
  vi.unstubAllEnvs();
  hub.stop();
  rmSync(root, { recursive: true });
});

export const weights = randomBytes(300_000);
export const etag = createHash('sha256').update(weights).digest('hex');
export const file = 'org/name/adapter.safetensors';
export const repoFolder = () => join(root, 'hub', 'models--org--name');
export const blobs = () => readdirSync(join(repoFolder(), 'blobs'));
export const addAdapter = () => hub.add('org/name', 'adapter.safetensors', weights);
export const expectDownloaded = () => {
  expect(readFileSync(resolveModelPath(file)).equals(weights)).toBe(true);
  expect(blobs()).toEqual([etag]);
};
