import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { HubServer } from '../hub-server.js';
import { type Adapted, makeAdaptedWorld } from './adapted-world.js';
import { runProgram } from './command.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const command = join(root, 'dist/cli/ip-adapter.cjs');

let world: Adapted;
let hub: HubServer;
let cache: string;
beforeAll(async () => {
  world = await makeAdaptedWorld();
  hub = new HubServer();
  for (const name of ['HUGGINGFACE_HUB_CACHE', 'HF_TOKEN', 'HF_HUB_OFFLINE']) vi.stubEnv(name, '');
  vi.stubEnv('HF_ENDPOINT', await hub.start());
  // Much that is not needed lies beside what is.
  hub.add('org/sd', '', world.model);
  hub.add('org/sd', 'model_index.json', Buffer.from('{}'));
  hub.add('org/sd', 'v1-5-pruned.ckpt', Buffer.from('not needed'));
  hub.add('org/sd', 'unet/diffusion_pytorch_model.bin', Buffer.from('not needed'));
  hub.add('h94/IP-Adapter', 'models/image_encoder', world.imageEncoder);
  hub.add('h94/IP-Adapter', 'models/image_encoder/pytorch_model.bin', Buffer.from('not needed'));
  hub.add('h94/IP-Adapter', 'models/plus.safetensors', readFileSync(world.adapter));
  hub.add('h94/IP-Adapter', 'models/other.safetensors', Buffer.from('not needed'));
});
beforeEach(({ task }) => {
  cache = join(world.root, `cache of ${task.id}`);
  vi.stubEnv('HF_HUB_CACHE', cache);
  hub.requests.length = 0;
  hub.transfers.length = 0;
  hub.rate = Number.POSITIVE_INFINITY;
});
afterAll(() => {
  vi.unstubAllEnvs();
  hub.stop();
  world.remove();
});

const run = (args: string[], onError?: Parameters<typeof runProgram>[2]['onError']) =>
  runProgram(process.execPath, [command, ...args], { cwd: world.root, ...(onError && { onError }) });
const names = {
  model: 'org/sd',
  encoder: 'h94/IP-Adapter/models/image_encoder',
  adapter: 'h94/IP-Adapter/models/plus.safetensors',
};
const train = (out: string, { model, encoder, adapter } = names) => [
  'train',
  ...['--pretrained_model_name_or_path', model, '--image_encoder_path', encoder],
  ...['--pretrained_ip_adapter_path', adapter, '--data_json_file', 'data.json', '--data_root_path', 'images'],
  ...['--resolution', '64', '--train_batch_size', '3', '--max_train_steps', '1', '--output_dir', out],
];
const adapterOf = (out: string) =>
  readFileSync(join(world.root, out, 'checkpoint-1', 'ip_adapter.safetensors'));

// A process a run, each of which loads the engine.
describe('models by name', { timeout: 240_000 }, () => {
  it('are downloaded, no more than is needed, and train as those in folders do; then nobody is asked', async () => {
    const { exitCode, stderr } = await run(train('named'));
    expect(stderr).toMatch(/Downloading org\/sd: 9 files, [\d.]+ MB\n[\s\S]*Downloaded org\/sd: /);
    expect(exitCode).toBe(0);
    expect(hub.served).toEqual([
      'model_index.json',
      'models/image_encoder/config.json',
      'models/image_encoder/model.safetensors',
      'models/plus.safetensors',
      'scheduler/scheduler_config.json',
      'text_encoder/config.json',
      'text_encoder/model.safetensors',
      'tokenizer/merges.txt',
      'tokenizer/vocab.json',
      'unet/config.json',
      'unet/diffusion_pytorch_model.safetensors',
      'vae/config.json',
      'vae/diffusion_pytorch_model.safetensors',
    ]);
    const paths = { model: world.model, encoder: world.imageEncoder, adapter: world.adapter };
    expect((await run(train('in folders', paths))).exitCode).toBe(0);
    expect(adapterOf('named').equals(adapterOf('in folders'))).toBe(true);

    hub.requests.length = 0;
    expect((await run(train('again'))).exitCode).toBe(0);
    expect(adapterOf('again').equals(adapterOf('named'))).toBe(true);
    const drawing = ['--model', names.model, '--image-encoder', names.encoder, '--adapter', names.adapter];
    const size = ['--steps', '1', '--width', '64', '--height', '64'];
    const drawn = await run(['generate', ...drawing, ...size, '--images', world.picture(0)]);
    expect(drawn.exitCode).toBe(0);
    const rows = ['--data_json_file', 'data.json', '--data_root_path', 'images', '--max_rows', '2'];
    const scored = await run(['evaluate', ...drawing, ...size, ...rows, '--metric_encoder', names.encoder]);
    expect(scored.exitCode).toBe(0);
    expect(hub.requests).toEqual([]);
  });

  it('are downloaded once by two processes that start together', async () => {
    hub.rate = 2_000_000;
    const ended = await Promise.all(['one', 'two'].map((out) => run(train(out))));
    expect(ended.map(({ exitCode }) => exitCode)).toEqual([0, 0]);
    expect(adapterOf('one').equals(adapterOf('two'))).toBe(true);
    // Only where both begin in the same moment is a file loaded twice, and never in half.
    for (const { path, start, sent } of hub.transfers) {
      expect(start).toBe(0);
      expect(sent).toBe(hub.sizeOf(path));
    }
    const leftovers = readdirSync(cache, { recursive: true }).filter((name) =>
      /incomplete|tmp/.test(`${name}`),
    );
    expect(leftovers).toEqual([]);
  });

  it.each(['SIGINT', 'SIGKILL'] as const)('go on where %s stopped them', async (signal) => {
    hub.rate = 200_000;
    const weights = 'text_encoder/model.safetensors';
    let isTold = false;
    const stopped = await run(train(`stopped by ${signal}`), (text, child) => {
      if (isTold || !text.includes('Downloading org/sd')) return;
      isTold = true;
      const isUnderWay = () => expect(hub.transfers.at(-1)).toMatchObject({ path: weights });
      const isHalf = () => expect(hub.transfers.at(-1)?.sent).toBeGreaterThan(hub.sizeOf(weights)! / 2);
      vi.waitFor(() => [isUnderWay(), isHalf()], { timeout: 20_000 }).then(() => child.kill(signal));
    });
    expect(stopped.exitCode).toBe(signal === 'SIGINT' ? 130 : null);
    // A kill leaves the lock of the output folder, which the next run takes over.
    expect(existsSync(join(world.root, `stopped by ${signal}`))).toBe(signal === 'SIGKILL');
    hub.rate = Number.POSITIVE_INFINITY;
    const before = hub.transfers.length;
    expect((await run(train(`stopped by ${signal}`))).exitCode).toBe(0);
    const [first] = hub.transfers.slice(before);
    expect(first?.path).toBe(weights);
    expect(first?.start).toBeGreaterThan(hub.sizeOf(weights)! / 3);
  });

  it('are named where the Hub has them not, before anything is written', async () => {
    const { exitCode, stderr } = await run(train('nothing', { ...names, model: 'org/unknown' }));
    expect(stderr).toMatch(
      /^CheckpointError: --model \(model\): Expected a model at org\/unknown .* HTTP 401: .*HF_TOKEN/m,
    );
    expect(stderr).not.toMatch(/\n {4}at /);
    expect(exitCode).toBe(2);
    expect(existsSync(join(world.root, 'nothing'))).toBe(false);
  });

  it('embed pictures too', async () => {
    mkdirSync(join(world.root, 'embedded'));
    writeFileSync(join(world.root, 'embed.yaml'), `image_encoder: ${names.encoder}\n`);
    const args = ['embed', world.picture(0), '--config', 'embed.yaml', '--out', 'embedded/one.safetensors'];
    expect(await run(args)).toMatchObject({ exitCode: 0, stdout: 'embedded/one.safetensors' });
  });
});
