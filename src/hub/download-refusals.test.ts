import { randomBytes } from 'node:crypto';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import {
  addAdapter,
  blobs,
  etag,
  expectDownloaded,
  file,
  hub,
  repoFolder,
  root,
} from '../../test/hub-download.js';
import { CheckpointError } from '../base/errors.js';
import { ensureDownloaded } from './download.js';

describe('content that differs from the Hub’s list', () => {
  it.each([
    ['adapter.safetensors', () => ensureDownloaded(file, 'adapter')],
    ['config.json', () => ensureDownloaded('org/name', 'imageEncoder')],
  ])('is refused and removed: %s', async (damaged, attempt) => {
    addAdapter();
    hub.add('org/name', 'config.json', Buffer.from('{"a": 1}'));
    hub.add('org/name', 'model.safetensors', Buffer.from('x'));
    hub.corrupt = (path, bytes) =>
      path === damaged ? Buffer.concat([bytes.subarray(1), Buffer.from('x')]) : bytes;
    await expect(attempt()).rejects.toThrow(CheckpointError);
    await expect(attempt()).rejects.toThrow(
      /bytes with hash [0-9a-f]+ for .* from the Hub but received \d+ with hash .*; they have been deleted/,
    );
    expect(blobs()).toEqual([]);
    hub.corrupt = (_, bytes) => bytes;
    await attempt();
    expect(blobs()).not.toEqual([]);
  });

  it('is detected in an earlier partial download too', async () => {
    addAdapter();
    mkdirSync(join(repoFolder(), 'blobs'), { recursive: true });
    writeFileSync(join(repoFolder(), 'blobs', `${etag}.incomplete`), randomBytes(1000));
    await expect(ensureDownloaded(file, 'adapter')).rejects.toThrow(/they have been deleted/);
    await ensureDownloaded(file, 'adapter');
    expectDownloaded();
  });

  it('is not downloaded if it is larger than the free space', async () => {
    addAdapter();
    hub.claimedSize = 1e18;
    await expect(ensureDownloaded(file, 'adapter')).rejects.toThrow(
      /Expected 1000000000\.00 GB of free space for org\/name .* but there are/,
    );
    expect(hub.transfers).toEqual([]);
  });
});

describe('a refused or missing model', () => {
  const attempt = () => ensureDownloaded(file, 'adapter');

  it('is reported with the status and the remedy', async () => {
    await expect(attempt()).rejects.toThrow(CheckpointError);
    await expect(attempt()).rejects.toThrow(
      /Expected a model at org\/name\/adapter\.safetensors but there is no such folder or file, and the Hub's cache .*\. Expected the model org\/name from http.* HTTP 401: there is no such model, or it is private or gated; .*licence at http.*\/org\/name .*HF_TOKEN/,
    );
    addAdapter();
    hub.gates.set('org/name', 'hf_right');
    await expect(attempt()).rejects.toThrow(/HTTP 401: .*gated/);
    vi.stubEnv('HF_TOKEN', 'hf_other');
    await expect(attempt()).rejects.toThrow(/HTTP 403: it is gated.*accept its licence at http.*\/org\/name/);
    mkdirSync(join(repoFolder(), 'refs'), { recursive: true });
    await expect(ensureDownloaded('org/name/none.bin', 'adapter')).rejects.toThrow(
      /Expected none\.bin in the model org\/name on the Hub but it does not exist/,
    );
  });

  it('is requested with a token from the variable or the file', async () => {
    addAdapter();
    hub.gates.set('org/name', 'hf_right');
    vi.stubEnv('HF_TOKEN', 'secret');
    await expect(attempt()).rejects.toThrow(
      /Expected a token of the Hub, which starts with hf_, in HF_TOKEN but it starts/,
    );
    await expect(attempt()).rejects.not.toThrow(/secret/);
    vi.stubEnv('HF_TOKEN', '');
    writeFileSync(join(root, 'token'), 'hf_right\n');
    await attempt();
    expectDownloaded();
  });

  it('is reported when the Hub cannot be reached, or is disabled', async () => {
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    await expect(attempt()).rejects.toThrow(/does not have all of its files; unset HF_HUB_OFFLINE/);
    expect(hub.requests).toEqual([]);
    vi.stubEnv('HF_HUB_OFFLINE', '');
    hub.stop();
    await expect(attempt()).rejects.toThrow(/http:\/\/127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED/);
  });

  it('is not requested if its name can only be a path', async () => {
    for (const name of ['/no/such', './no/such', '../no/such', 'folder/adapter.safetensors', root])
      await ensureDownloaded(name, 'adapter');
    expect(hub.requests).toEqual([]);
  });
});
