import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { CheckpointError } from '../base/errors.js';
import { cachedSnapshot, resolveModelPath } from './cache.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-hub-'));
afterAll(() => rmSync(root, { recursive: true }));
const variables = ['HF_HUB_CACHE', 'HUGGINGFACE_HUB_CACHE', 'HF_HOME', 'XDG_CACHE_HOME'];
beforeEach(() => {
  for (const name of variables) vi.stubEnv(name, '');
  vi.stubEnv('HF_HOME', root);
});
afterEach(() => vi.unstubAllEnvs());

const commit = '0123456789abcdef0123456789abcdef01234567';
const repo = join(root, 'hub', 'models--h94--IP-Adapter');
const snapshot = join(repo, 'snapshots', commit);
mkdirSync(join(repo, 'refs'), { recursive: true });
writeFileSync(join(repo, 'refs', 'main'), `${commit}\n`);
mkdirSync(join(snapshot, 'models', 'image_encoder'), { recursive: true });

const refuses = (name: string, message: RegExp) => {
  expect(() => resolveModelPath(name)).toThrow(CheckpointError);
  expect(() => resolveModelPath(name)).toThrow(message);
};

describe('resolveModelPath', () => {
  it('returns an existing path', () => {
    expect(resolveModelPath(root)).toBe(root);
  });

  it('finds a name in the cache, and a folder in it', () => {
    expect(resolveModelPath('h94/IP-Adapter')).toBe(snapshot);
    expect(resolveModelPath('h94/IP-Adapter/models/image_encoder')).toBe(
      join(snapshot, 'models', 'image_encoder'),
    );
  });

  it('says what to download', () => {
    refuses(
      'org/name',
      /there is no such folder or file, and no model org\/name in the Hub's cache \(.*hub\); .*hf download org\/name$/,
    );
    refuses('org/name/sub', /hf download org\/name --include "sub\/\*"$/);
    refuses(
      'h94/IP-Adapter/sdxl_models',
      /Expected sdxl_models in .* it does not exist; download it: hf download h94\/IP-Adapter --include/,
    );
  });

  it('does not treat a path as a name on the Hub', () => {
    for (const name of ['/no/such', './no/such', '../no/such', 'nothing', 'a b/c'])
      refuses(name, /but there is no such folder or file$/);
  });
});

describe('cachedSnapshot', () => {
  it('uses the folders of Python’s libraries', () => {
    expect(cachedSnapshot('h94/IP-Adapter')).toBe(snapshot);
    vi.stubEnv('HF_HUB_CACHE', join(root, 'elsewhere'));
    expect(cachedSnapshot('h94/IP-Adapter')).toBeNull();
    vi.stubEnv('HF_HUB_CACHE', join(root, 'hub'));
    vi.stubEnv('HF_HOME', join(root, 'elsewhere'));
    expect(cachedSnapshot('h94/IP-Adapter')).toBe(snapshot);
  });

  it('needs the cached commit of the main branch', () => {
    const other = join(root, 'hub', 'models--a--b', 'refs');
    mkdirSync(other, { recursive: true });
    expect(cachedSnapshot('a/b')).toBeNull();
    writeFileSync(join(other, 'main'), commit);
    expect(cachedSnapshot('a/b')).toBeNull();
  });
});
