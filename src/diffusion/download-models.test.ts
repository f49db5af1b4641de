import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { HubServer } from '../../test/hub-server.js';
import { cachedSnapshot } from '../hub/cache.js';
import { downloadModels } from './download-models.js';

let hub: HubServer;
let root: string;
beforeEach(async () => {
  hub = new HubServer();
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-models-'));
  vi.stubEnv('HF_HUB_CACHE', join(root, 'cache'));
  vi.stubEnv('HF_ENDPOINT', await hub.start());
});
afterEach(() => {
  vi.unstubAllEnvs();
  hub.stop();
  rmSync(root, { recursive: true });
});

it('gives a Stable Diffusion that is one file a tokenizer, unless it is beside it', async () => {
  const clip = 'openai/clip-vit-large-patch14';
  for (const name of ['vocab.json', 'merges.txt', 'config.json', 'model.safetensors'])
    hub.add(clip, name, Buffer.from(name));
  hub.add('org/sd', 'v1-5.safetensors', Buffer.from('weights'));
  const file = join(root, 'v1-5.safetensors');
  writeFileSync(file, '');
  mkdirSync(join(root, 'tokenizer'));
  writeFileSync(join(root, 'tokenizer', 'vocab.json'), '{}');
  await downloadModels({ stableDiffusion: file }, {});
  expect(hub.requests).toEqual([]);

  rmSync(join(root, 'tokenizer'), { recursive: true });
  await downloadModels({ stableDiffusion: file }, {});
  expect(hub.served).toEqual(['merges.txt', 'vocab.json']);
  rmSync(cachedSnapshot(clip) as string, { recursive: true });
  await downloadModels({ stableDiffusion: 'org/sd/v1-5.safetensors' }, {});
  expect(hub.served).toEqual(['merges.txt', 'v1-5.safetensors', 'vocab.json']);
  expect(cachedSnapshot(clip)).not.toBeNull();
});
