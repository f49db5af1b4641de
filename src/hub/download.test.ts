import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
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
  weights,
} from '../../test/hub-download.js';
import { HubServer } from '../../test/hub-server.js';
import { resolveModelPath } from './cache.js';
import { ensureDownloaded } from './download.js';

const requested = () => hub.transfers.reduce((sum, { sent }) => sum + sent, 0);

describe('the cache that is written', () => {
  it('has the layout of Python’s client', async () => {
    addAdapter();
    hub.add('org/name', 'deep/er/config.json', Buffer.from('{}\n'));
    hub.add('org/name', 'deep/er/model.safetensors', Buffer.from('x'));
    await ensureDownloaded(file, 'adapter');
    await ensureDownloaded('org/name/deep/er', 'imageEncoder');
    expect(readFileSync(join(repoFolder(), 'refs', 'main'), 'utf8')).toBe(HubServer.commit);
    const snapshot = join(repoFolder(), 'snapshots', HubServer.commit);
    expect(resolveModelPath(file)).toBe(join(snapshot, 'adapter.safetensors'));
    expect(readlinkSync(join(snapshot, 'adapter.safetensors'))).toBe(`../../blobs/${etag}`);
    // `git hash-object` of the same content.
    expect(readlinkSync(join(snapshot, 'deep/er/config.json'))).toBe(
      '../../../../blobs/0967ef424bce6791893e9a57bb952f80fd536e93',
    );
    expect(readdirSync(root)).toEqual(['hub']);
    expect(readdirSync(repoFolder()).sort()).toEqual(['blobs', 'refs', 'snapshots']);
    expect(blobs()).toHaveLength(3);
  });

  it('needs no network the next time', async () => {
    addAdapter();
    await ensureDownloaded(file, 'adapter');
    hub.requests.length = 0;
    await ensureDownloaded(file, 'adapter');
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    await ensureDownloaded(file, 'adapter');
    expect(hub.requests).toEqual([]);
  });

  it('keeps its commit', async () => {
    addAdapter();
    mkdirSync(join(repoFolder(), 'refs'), { recursive: true });
    writeFileSync(join(repoFolder(), 'refs', 'main'), HubServer.commit);
    await ensureDownloaded(file, 'adapter');
    expectDownloaded();
    expect(hub.requests).not.toContain('GET /api/models/org/name/revision/main');
    expect(hub.requests).toContain(`GET /api/models/org/name/tree/${HubServer.commit}`);
  });

  it('links cached content to another name without downloading it again', async () => {
    addAdapter();
    hub.add('org/name', 'copy.safetensors', weights);
    await ensureDownloaded(file, 'adapter');
    await ensureDownloaded('org/name/copy.safetensors', 'adapter');
    expect(hub.served).toEqual(['adapter.safetensors']);
    expect(readFileSync(resolveModelPath('org/name/copy.safetensors')).equals(weights)).toBe(true);
  });
});

describe('which files', () => {
  const put = (...paths: string[]) => {
    for (const path of paths) hub.add('org/name', path, Buffer.from(path));
  };
  const part = ['transformers', 'CLIPTextModel'];
  const putIndex = (index: Record<string, unknown>) =>
    hub.add('org/name', 'model_index.json', Buffer.from(JSON.stringify(index)));

  it('of a Stable Diffusion: each part’s config and one form of its weights', async () => {
    putIndex({ text_encoder: part, unet: ['diffusers', 'UNet2DConditionModel'] });
    put('README.md', 'v1-5-pruned.ckpt', 'v1-5-pruned.safetensors');
    // Not its own, as the index says.
    put(...['config.json', 'model.safetensors'].map((name) => `text_encoder_2/${name}`));
    put('scheduler/scheduler_config.json', 'feature_extractor/preprocessor_config.json');
    put(...['vocab.json', 'merges.txt', 'tokenizer_config.json'].map((name) => `tokenizer/${name}`));
    put(...['config.json', 'model.safetensors'].map((name) => `safety_checker/${name}`));
    put(...['config.json', 'model.safetensors', 'pytorch_model.bin'].map((name) => `text_encoder/${name}`));
    const endings = ['safetensors', 'bin', 'fp16.safetensors', 'fp16.bin', 'non_ema.safetensors'];
    for (const part of ['unet', 'vae'])
      put(`${part}/config.json`, ...endings.map((ending) => `${part}/diffusion_pytorch_model.${ending}`));
    await ensureDownloaded('org/name', 'stableDiffusion');
    expect(hub.served).toEqual([
      'model_index.json',
      'scheduler/scheduler_config.json',
      'text_encoder/config.json',
      'text_encoder/model.safetensors',
      'tokenizer/merges.txt',
      'tokenizer/tokenizer_config.json',
      'tokenizer/vocab.json',
      'unet/config.json',
      'unet/diffusion_pytorch_model.safetensors',
      'vae/config.json',
      'vae/diffusion_pytorch_model.safetensors',
    ]);
    expect(hub.transfers.at(-1)?.path).toBe('unet/diffusion_pytorch_model.safetensors');
  });

  const putXL = (index: Record<string, unknown>) => {
    putIndex(index);
    put('scheduler/scheduler_config.json', 'sd_xl_base_1.0.safetensors', 'vae_1_0/config.json');
    for (const ending of ['', '_2']) {
      put(...['vocab.json', 'merges.txt'].map((name) => `tokenizer${ending}/${name}`));
      put(...['config.json', 'model.fp16.safetensors'].map((name) => `text_encoder${ending}/${name}`));
    }
    for (const name of ['unet', 'vae'])
      put(`${name}/config.json`, `${name}/diffusion_pytorch_model.safetensors`);
  };
  const xlIndex = { text_encoder: part, text_encoder_2: part, tokenizer: part, tokenizer_2: part };

  it('of SDXL: both text encoders and tokenizers too, the small files first', async () => {
    putXL(xlIndex);
    await ensureDownloaded('org/name', 'stableDiffusion');
    expect(hub.transfers.map(({ path }) => path)).toEqual([
      'model_index.json',
      'scheduler/scheduler_config.json',
      'tokenizer/vocab.json',
      'tokenizer/merges.txt',
      'tokenizer_2/vocab.json',
      'tokenizer_2/merges.txt',
      'text_encoder/config.json',
      'text_encoder_2/config.json',
      'vae/config.json',
      'unet/config.json',
      'text_encoder/model.fp16.safetensors',
      'text_encoder_2/model.fp16.safetensors',
      'vae/diffusion_pytorch_model.safetensors',
      'unet/diffusion_pytorch_model.safetensors',
    ]);
    // Complete: nothing is asked for.
    hub.requests.length = 0;
    await ensureDownloaded('org/name', 'stableDiffusion');
    expect(hub.requests).toEqual([]);
    rmSync(join(resolveModelPath('org/name'), 'text_encoder_2/model.fp16.safetensors'));
    await ensureDownloaded('org/name', 'stableDiffusion');
    expect(existsSync(join(resolveModelPath('org/name'), 'text_encoder_2/model.fp16.safetensors'))).toBe(
      true,
    );
  });

  it('of the refiner of SDXL: none but its index, which says so', async () => {
    putXL({ ...xlIndex, text_encoder: [null, null], tokenizer: [null, null] });
    await expect(ensureDownloaded('org/name', 'stableDiffusion')).rejects.toThrow(
      /has the second text encoder of SDXL and not the first, as the refiner of SDXL; take the base model/,
    );
    expect(hub.served).toEqual(['model_index.json']);
  });

  it('of an image encoder in a large repository: its folder', async () => {
    put('models/ip-adapter.safetensors', 'config.json', 'model.safetensors', 'sdxl/config.json');
    put(...['config.json', 'model.safetensors', 'pytorch_model.bin'].map((name) => `models/encoder/${name}`));
    await ensureDownloaded('org/name/models/encoder', 'imageEncoder');
    expect(hub.served).toEqual(['models/encoder/config.json', 'models/encoder/model.safetensors']);
  });

  it.each([
    [['pytorch_model.bin', 'model.fp16.safetensors'], 'model.fp16.safetensors'],
    [['pytorch_model.bin', 'tf_model.h5'], 'pytorch_model.bin'],
  ])('of %j the one that is loaded', async (names, loaded) => {
    put('config.json', ...names);
    await ensureDownloaded('org/name', 'imageEncoder');
    expect(hub.served).toEqual(['config.json', loaded]);
  });

  it('of shards: those that the index lists, all of which are needed', async () => {
    const shards = ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors'];
    const index = { weight_map: { a: shards[0], b: shards[1], c: shards[1] } };
    put('config.json', 'model-00001-of-00001.safetensors', ...shards);
    hub.add('org/name', 'model.safetensors.index.json', Buffer.from(JSON.stringify(index)));
    await ensureDownloaded('org/name', 'imageEncoder');
    expect(hub.served).toEqual(['config.json', ...shards, 'model.safetensors.index.json']);
    rmSync(join(resolveModelPath('org/name'), shards[1] as string));
    await ensureDownloaded('org/name', 'imageEncoder');
    expect(existsSync(join(resolveModelPath('org/name'), shards[1] as string))).toBe(true);
  });

  it('of a text encoder: its tokenizer too, wherever it is', async () => {
    put(
      'text/config.json',
      'text/model.safetensors',
      'tokenizer/vocab.json',
      'tokenizer/merges.txt',
      'vae/x.bin',
    );
    await ensureDownloaded('org/name/text', 'textEncoder');
    expect(hub.served).toEqual([
      'text/config.json',
      'text/model.safetensors',
      'tokenizer/merges.txt',
      'tokenizer/vocab.json',
    ]);
  });

  it('names files that the repository does not have', async () => {
    put('config.json', 'README.md');
    await expect(ensureDownloaded('org/name', 'imageEncoder')).rejects.toThrow(
      /Expected model\.safetensors, or .* in the model org\/name on the Hub but it does not exist/,
    );
  });
});

describe('a broken connection', () => {
  it('is resumed where it broke', async () => {
    addAdapter();
    hub.cuts.push(100_000, 50_000);
    await ensureDownloaded(file, 'adapter');
    expectDownloaded();
    const starts = hub.transfers.map(({ start }) => start);
    expect(starts).toHaveLength(3);
    expect(starts[0]).toBe(0);
    // Bytes in transit when the connection broke may be lost.
    for (const [i, sent] of [100_000, 50_000].entries()) {
      const came = (starts[i + 1] as number) - (starts[i] as number);
      expect(came).toBeGreaterThan(0);
      expect(came).toBeLessThanOrEqual(sent);
    }
    expect(requested()).toBeLessThan(weights.length + 150_000);
  });

  it('reports why a download stopped, and the next one resumes it', async () => {
    addAdapter();
    hub.rate = 200_000;
    const abort = new AbortController();
    const started = ensureDownloaded(file, 'adapter', { signal: abort.signal });
    const reason = new Error('enough');
    await vi.waitFor(() => expect(hub.transfers[0]?.sent).toBeGreaterThan(100_000), { timeout: 20_000 });
    abort.abort(reason);
    await expect(started).rejects.toBe(reason);
    expect(blobs()).toEqual([`${etag}.incomplete`]);
    const kept = readFileSync(join(repoFolder(), 'blobs', `${etag}.incomplete`));
    expect(kept.length).toBeGreaterThan(0);
    expect(kept.equals(weights.subarray(0, kept.length))).toBe(true);

    hub.rate = Number.POSITIVE_INFINITY;
    await ensureDownloaded(file, 'adapter');
    expectDownloaded();
    expect(hub.transfers[1]).toEqual({
      path: 'adapter.safetensors',
      start: kept.length,
      sent: weights.length - kept.length,
    });
  });

  it('resumes the file of a process of this host that has ended', async () => {
    addAdapter();
    mkdirSync(join(repoFolder(), 'blobs'), { recursive: true });
    // Process ids are smaller than this.
    const left = `${etag}.${hostname()}.99999999.01234567.incomplete`;
    const elsewhere = `${etag}.elsewhere.1.01234567.incomplete`;
    for (const name of [left, elsewhere])
      writeFileSync(join(repoFolder(), 'blobs', name), weights.subarray(0, 1000));
    await ensureDownloaded(file, 'adapter');
    expect(hub.transfers).toEqual([
      { path: 'adapter.safetensors', start: 1000, sent: weights.length - 1000 },
    ]);
    expect(blobs().sort()).toEqual([etag, elsewhere]);
  });
});

describe('two concurrent downloads', () => {
  it('download the file once: the second waits', async () => {
    addAdapter();
    hub.rate = 300_000;
    const messages: string[] = [];
    const onMessage = (message: string) => messages.push(message);
    await Promise.all([1, 2].map(() => ensureDownloaded(file, 'adapter', { onMessage })));
    expectDownloaded();
    expect(hub.transfers).toHaveLength(1);
    expect(messages).toContain('Waiting for another process that is downloading adapter.safetensors');
    expect(messages[0]).toBe('Downloading org/name: 1 file, 0.3 MB');
    expect(messages.at(-1)).toMatch(/^Downloaded org\/name: 0\.[03] MB in \d+\.\d s$/);
  });
});
