import { createHash, randomBytes } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { HubServer } from '../../test/hub-server.js';
import { CheckpointError } from '../base/errors.js';
import { resolveModelPath } from './cache.js';
import { ensureDownloaded } from './download.js';

let hub: HubServer;
let url: string;
let root: string;
beforeEach(async () => {
  hub = new HubServer();
  url = await hub.start();
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

const weights = randomBytes(300_000);
const etag = createHash('sha256').update(weights).digest('hex');
const file = 'org/name/adapter.safetensors';
const repoFolder = () => join(root, 'hub', 'models--org--name');
const blobs = () => readdirSync(join(repoFolder(), 'blobs'));
const addAdapter = () => hub.add('org/name', 'adapter.safetensors', weights);
const expectDownloaded = () => {
  expect(readFileSync(resolveModelPath(file)).equals(weights)).toBe(true);
  expect(blobs()).toEqual([etag]);
};
const requested = () => hub.transfers.reduce((sum, { sent }) => sum + sent, 0);

describe('the cache that is written', () => {
  it('is laid out as that of Python’s client', async () => {
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

  it('is enough the next time: nobody is asked', async () => {
    addAdapter();
    await ensureDownloaded(file, 'adapter');
    hub.requests.length = 0;
    await ensureDownloaded(file, 'adapter');
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    await ensureDownloaded(file, 'adapter');
    expect(hub.requests).toEqual([]);
  });

  it('keeps to the commit that it has', async () => {
    addAdapter();
    mkdirSync(join(repoFolder(), 'refs'), { recursive: true });
    writeFileSync(join(repoFolder(), 'refs', 'main'), HubServer.commit);
    await ensureDownloaded(file, 'adapter');
    expectDownloaded();
    expect(hub.requests).not.toContain('GET /api/models/org/name/revision/main');
    expect(hub.requests).toContain(`GET /api/models/org/name/tree/${HubServer.commit}`);
  });

  it('gives a content that is there another name without loading it again', async () => {
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

  it('of a Stable Diffusion: each part’s config and one form of its weights', async () => {
    put('model_index.json', 'README.md', 'v1-5-pruned.ckpt', 'v1-5-pruned.safetensors');
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

  it('of an image encoder in a repository of many things: its folder', async () => {
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

  it('of shards those that the index lists, and all before it is complete', async () => {
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

  it('of a text encoder its tokenizer too, wherever it is', async () => {
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

  it('names what is not in the repository', async () => {
    put('config.json', 'README.md');
    await expect(ensureDownloaded('org/name', 'imageEncoder')).rejects.toThrow(
      /Expected model\.safetensors, or .* in the model org\/name on the Hub but it does not exist/,
    );
  });
});

describe('a broken connection', () => {
  it('is taken up where it broke', async () => {
    addAdapter();
    hub.cuts.push(100_000, 50_000);
    await ensureDownloaded(file, 'adapter');
    expectDownloaded();
    const starts = hub.transfers.map(({ start }) => start);
    expect(starts).toHaveLength(3);
    expect(starts[0]).toBe(0);
    // What was on its way when it broke may not have come in.
    for (const [i, sent] of [100_000, 50_000].entries()) {
      const came = (starts[i + 1] as number) - (starts[i] as number);
      expect(came).toBeGreaterThan(0);
      expect(came).toBeLessThanOrEqual(sent);
    }
    expect(requested()).toBeLessThan(weights.length + 150_000);
  });

  it('is told by what stops a download, which the next one goes on with', async () => {
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

  it('goes on with what a process has left that is gone, and of this host only', async () => {
    addAdapter();
    mkdirSync(join(repoFolder(), 'blobs'), { recursive: true });
    // Numbers of processes end below it.
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

describe('what is not as the Hub says', () => {
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

  it('a start that does not belong to the file is found, too', async () => {
    addAdapter();
    mkdirSync(join(repoFolder(), 'blobs'), { recursive: true });
    writeFileSync(join(repoFolder(), 'blobs', `${etag}.incomplete`), randomBytes(1000));
    await expect(ensureDownloaded(file, 'adapter')).rejects.toThrow(/they have been deleted/);
    await ensureDownloaded(file, 'adapter');
    expectDownloaded();
  });

  it('a file larger than the disk is not begun', async () => {
    addAdapter();
    hub.claimedSize = 1e18;
    await expect(ensureDownloaded(file, 'adapter')).rejects.toThrow(
      /Expected 1000000000\.00 GB of free space for org\/name .* but there are/,
    );
    expect(hub.transfers).toEqual([]);
  });
});

describe('who may not, or asks for what is not there', () => {
  const attempt = () => ensureDownloaded(file, 'adapter');

  it('hears the status and the remedy', async () => {
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

  it('gives a token, from the variable or the file', async () => {
    addAdapter();
    hub.gates.set('org/name', 'hf_right');
    vi.stubEnv('HF_TOKEN', 'secret');
    await expect(attempt()).rejects.toThrow(/Expected a token of the Hub, which starts with hf_, in HF_TOKEN but it starts/);
    await expect(attempt()).rejects.not.toThrow(/secret/);
    vi.stubEnv('HF_TOKEN', '');
    writeFileSync(join(root, 'token'), 'hf_right\n');
    await attempt();
    expectDownloaded();
  });

  it('hears that the Hub cannot be reached, or may not be', async () => {
    vi.stubEnv('HF_HUB_OFFLINE', '1');
    await expect(attempt()).rejects.toThrow(/does not have all of its files; unset HF_HUB_OFFLINE/);
    expect(hub.requests).toEqual([]);
    vi.stubEnv('HF_HUB_OFFLINE', '');
    hub.stop();
    await expect(attempt()).rejects.toThrow(/http:\/\/127\.0\.0\.1:\d+ cannot be reached: .*ECONNREFUSED/);
  });

  it('asks nobody for what can only be a path', async () => {
    for (const name of ['/no/such', './no/such', '../no/such', 'folder/adapter.safetensors', root])
      await ensureDownloaded(name, 'adapter');
    expect(hub.requests).toEqual([]);
  });
});

describe('two at once', () => {
  it('load it once: the second waits', async () => {
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
