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

it('names the option of a model that is not there', async () => {
  const file = join(root, 'none.safetensors');
  for (const [kind, option] of Object.entries({
    stableDiffusion: '--model',
    adapter: '--adapter',
    imageEncoder: '--image-encoder',
    lora: '--lora',
    controlnet: '--controlnet',
  }))
    for (const name of [file, 'org/unknown'])
      await expect(downloadModels({ [kind]: name }, {})).rejects.toThrow(
        new RegExp(`^${option} \\(\\w+\\): Expected a model at ${name} but`),
      );
  const dino = { imageEncoder: '--dino-encoder (dinoEncoder)' };
  await expect(downloadModels({ imageEncoder: file }, {}, dino)).rejects.toThrow(/^--dino-encoder/);
});
