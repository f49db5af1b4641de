/** @file Errors in the middle of a run that are not about its weights: what was trained is saved before they are told. */
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { listCheckpoints } from '../../src/adapters/adapter-path.js';
import { TorchError } from '../../src/base/errors.js';
import type { RunEvent } from '../../src/base/run-context.js';
import { shuffledIndices } from '../../src/data/sampling.js';
import { native } from '../../src/torch/native.js';
import { verifyCheckpoint } from '../../src/training/checkpoints/checkpoint.js';
import { StepReporter } from '../../src/training/reports/step-reporter.js';
import { train } from '../../src/training/train.js';
import { Recorder } from '../recorder.js';
import { makeWorld, type World } from './world.js';

vi.setConfig({ testTimeout: 120_000 });

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());
afterEach(() => {
  vi.restoreAllMocks();
});

const out = (name: string): string => join(world.root, name);
const optionsFor = (name: string) => ({ ...world.optionsFor(name), batchSize: 3, maxSteps: 12 });
const adapterOf = (path: string): Buffer => readFileSync(join(path, 'ip_adapter.safetensors'));

/** Runs `work` once the run has told of step `step` or a later one. */
const after = (step: number, work: () => void) => {
  let isDone = false;
  return {
    onEvent: (event: RunEvent) => {
      if (isDone || event.type !== 'step' || event.step < step) return;
      isDone = true;
      work();
    },
  };
};

/** Runs `work` right after a run's step `step`, whatever the machine's speed; events come twice a second only. */
function rightAfter(step: number, work: () => void): void {
  const { add } = StepReporter.prototype;
  let done = 0;
  vi.spyOn(StepReporter.prototype, 'add').mockImplementation(function (this: StepReporter, ...args) {
    add.apply(this, args);
    if (++done === step) work();
  });
}

/** The only checkpoint of a run that failed, whole and named in the message. */
function savedBy(name: string, message: string): string {
  const [path = '', ...others] = listCheckpoints(out(name));
  expect(others).toEqual([]);
  verifyCheckpoint(path);
  expect(message).toContain(`; resume with --resume ${path}`);
  return path;
}

async function failureOf(...args: Parameters<typeof train>): Promise<Error> {
  return await train(...args).then(
    () => expect.unreachable('the run did not fail'),
    (error: Error) => error,
  );
}

describe('images that go away', () => {
  const images = () => join(world.root, 'images');
  beforeAll(() => cpSync(images(), out('kept'), { recursive: true }));
  afterEach(() => cpSync(out('kept'), images(), { recursive: true }));

  it.each<[string, (file: string) => void]>([
    ['deleted', (file) => rmSync(file)],
    ['truncated', (file) => truncateSync(file, 60)],
    [
      'folders',
      (file) => {
        rmSync(file);
        mkdirSync(file);
      },
    ],
  ])('%s: the steps are saved, and the message says how to resume', async (name, spoil) => {
    const options = { ...optionsFor(name), maxSteps: 100_000 };
    const spoilAll = after(3, () => {
      for (let i = 0; i < 8; i++) spoil(join(images(), `${i}.png`));
    });
    const { message } = await failureOf(options, spoilAll);
    expect(message).toMatch(/Expected a readable image/);
    const path = savedBy(name, message);
    if (name === 'folders')
      for (let i = 0; i < 8; i++) rmSync(join(images(), `${i}.png`), { recursive: true });
    cpSync(out('kept'), images(), { recursive: true });
    const step = Number(/\d+$/.exec(path)?.[0]);
    const again = await train({ ...options, resume: 'latest', maxSteps: step + 1 });
    expect(again.step).toBe(step + 1);
  });
});

it('bad rows behind the last step do not fail a run that is complete', async () => {
  const large = await makeWorld(40);
  try {
    const order = shuffledIndices(0, 0, 40);
    for (const row of order.slice(10, 30)) truncateSync(join(large.root, 'images', `${row}.png`), 60);
    const options = { ...large.optionsFor('out'), batchSize: 10, maxSteps: 1 };
    expect((await train(options)).step).toBe(1);
  } finally {
    large.remove();
  }
});

describe('no memory in a step', () => {
  /** Has every native call fail from the n-th on after `start` was called, until `stop`. */
  function failingCalls() {
    let left = Number.POSITIVE_INFINITY;
    const { call } = native();
    vi.spyOn(native(), 'call').mockImplementation((...args) => {
      if (left-- <= 0) {
        left = Number.POSITIVE_INFINITY;
        throw new Error('out of memory: could not allocate 4096 bytes on the CPU (1 in use)');
      }
      return call(...args);
    });
    return {
      failAfter: (calls: number) => {
        left = calls;
      },
    };
  }

  it('before the update: the steps are saved, and resumed bit-exactly; in the update: the weights are not saved', async () => {
    await train(optionsFor('whole'));
    const endings = { saved: 0, torn: 0 };
    for (const [i, calls] of [0, 3, 100, 700, 1500, 2500, 2900, 3100, 3300].entries()) {
      const { failAfter } = failingCalls();
      const name = `memory ${i}`;
      const options = { ...optionsFor(name), saveSteps: 1000 };
      let error: Error | undefined;
      try {
        rightAfter(5, () => failAfter(calls));
        await train(options);
      } catch (caught) {
        error = caught as Error;
      }
      vi.restoreAllMocks();
      if (error === undefined) continue;
      expect(error).not.toBeInstanceOf(TorchError);
      if (/failed while it updated the weights/.test(error.message)) {
        endings.torn++;
        expect(error.message).toMatch(/there is no checkpoint to resume: start again/);
        expect(listCheckpoints(out(name))).toEqual([]);
        continue;
      }
      endings.saved++;
      expect(error.message).toMatch(/^Expected enough memory for step \d+ but .*out of memory/s);
      savedBy(name, error.message);
      const { checkpoint } = await train({ ...options, resume: true });
      expect(Buffer.compare(adapterOf(checkpoint), adapterOf(join(out('whole'), 'checkpoint-12')))).toBe(0);
    }
    console.log(`endings: ${JSON.stringify(endings)}`);
    expect(endings.saved).toBeGreaterThan(2);
    expect(endings.torn).toBeGreaterThan(0);
  });
});

it('an error of the caller’s own function is passed on as it is, and the steps are saved', async () => {
  const own = new RangeError('own');
  const throwing = after(4, () => {
    throw own;
  });
  expect(await failureOf({ ...optionsFor('own'), maxSteps: 100_000 }, throwing)).toBe(own);
  const [path = '', ...others] = listCheckpoints(out('own'));
  expect(others).toEqual([]);
  verifyCheckpoint(path);
});

describe('--resume', () => {
  it('auto starts afresh where there is nothing, and goes on where there is; latest wants a checkpoint', async () => {
    await expect(train({ ...optionsFor('auto'), resume: 'latest' })).rejects.toThrow(/there is none/);
    const first = await train({ ...optionsFor('auto'), maxSteps: 2, resume: 'auto' });
    expect(first.step).toBe(2);
    const { messages, onEvent } = new Recorder();
    await train({ ...optionsFor('auto'), maxSteps: 3, resume: 'auto' }, { onEvent });
    expect(messages.join('\n')).toContain(`from step 2 of ${first.checkpoint}`);
  });

  it('says where nothing is left to do', async () => {
    const { checkpoint } = await train({ ...optionsFor('done'), maxSteps: 2 });
    const { messages, onEvent } = new Recorder();
    const again = await train({ ...optionsFor('done'), maxSteps: 2, resume: true }, { onEvent });
    expect(again).toMatchObject({ step: 2, checkpoint });
    expect(messages).toContain(
      `Nothing is left to do: ${checkpoint} has all 2 steps of the run. To train on, give more --max-steps or --epochs`,
    );
  });
});

it('NaN in the adapter to start from, or in a model, is not blamed on the learning rate', async () => {
  const { checkpoint } = await train({ ...optionsFor('start'), maxSteps: 1 });
  const spoilt = out('spoilt.safetensors');
  const bytes = readFileSync(join(checkpoint, 'ip_adapter.safetensors'));
  bytes.writeFloatLE(Number.NaN, bytes.length - 4);
  writeFileSync(spoilt, bytes);
  const ofAdapter = await failureOf({ ...optionsFor('from NaN'), adapter: spoilt });
  expect(ofAdapter.message).toMatch(/\S+ of \S+spoilt\.safetensors has NaN/);
  expect(ofAdapter.message).not.toMatch(/learning-rate/);

  const model = out('NaN model');
  cpSync(out('model'), model, { recursive: true });
  const file = join(model, 'unet', 'diffusion_pytorch_model.safetensors');
  const weights = readFileSync(file);
  for (let at = weights.length - 4000; at < weights.length; at += 4) weights.writeFloatLE(Number.NaN, at);
  writeFileSync(file, weights);
  const ofModel = await failureOf({ ...optionsFor('NaN model run'), model });
  expect(ofModel.message).toMatch(/in step 1;.*not the learning rate/s);
  expect(ofModel.message).not.toMatch(/lower --learning-rate/);
});

it('a checkpoint that a kill has left under its hidden name is resumed, and a fresh start refuses to mix with it', async () => {
  const folder = out('replaced');
  const { checkpoint } = await train({ ...optionsFor('replaced'), maxSteps: 2 });
  const putAside = () => renameSync(checkpoint, join(folder, '.checkpoint-2.replaced'));
  putAside();
  await expect(train(optionsFor('replaced'))).rejects.toThrow(/holds the checkpoints of another run/);
  putAside();
  const { step } = await train({ ...optionsFor('replaced'), maxSteps: 3, resume: true });
  expect(step).toBe(3);
  expect(listCheckpoints(folder)).toEqual([checkpoint, join(folder, 'checkpoint-3')]);
});

describe('a file that is in use', () => {
  /** A model of its own whose files a test may change. */
  const modelOf = (name: string): string => {
    cpSync(out('model'), out(name), { recursive: true });
    return out(name);
  };
  const unetOf = (model: string): string => join(model, 'unet', 'diffusion_pytorch_model.safetensors');

  it.each(['unet', 'vae', 'cache'])(
    '%s overwritten in place: nothing of what came after is saved',
    async (what) => {
      const model = modelOf(`model of ${what}`);
      const options = {
        ...optionsFor(`overwritten ${what}`),
        model,
        maxSteps: 100_000,
        saveSteps: 5,
        ...(what === 'cache' ? { cache: 'latents', cacheDir: out('cache to overwrite') } : {}),
      };
      const overwrite = after(6, () => {
        let file = join(model, what, 'diffusion_pytorch_model.safetensors');
        if (what === 'cache') {
          const [name = ''] = readdirSync(options.cacheDir as string, {
            recursive: true,
            encoding: 'utf8',
          }).filter((name) => name.endsWith('.safetensors'));
          file = join(out('cache to overwrite'), name);
        }
        const bytes = readFileSync(file);
        const handle = openSync(file, 'r+');
        writeSync(handle, bytes.subarray(0, 100), 0, 100, 0);
        closeSync(handle);
      });
      const { message } = await failureOf(options, overwrite);
      expect(message).toMatch(
        /Expected \S.*\.safetensors to stay as it was but it was overwritten while this run used it/,
      );
      const saved = listCheckpoints(out(`overwritten ${what}`));
      expect(message).toContain(`; resume with --resume ${saved.at(-1)}`);
      // It may have come between a save and the next look.
      expect(saved.length).toBeGreaterThan(0);
    },
  );

  it('replaced by another: all steps are saved', async () => {
    const model = modelOf('replaced model');
    const options = {
      ...optionsFor('replaced file'),
      model,
      maxSteps: 100_000,
      saveSteps: 5,
    };
    const replace = after(3, () => {
      cpSync(unetOf(model), `${unetOf(model)}.new`);
      renameSync(`${unetOf(model)}.new`, unetOf(model));
    });
    const { message } = await failureOf(options, replace);
    expect(message).toMatch(/another file was put in its place .* All steps are saved/);
    expect(message).toContain(`; resume with --resume ${listCheckpoints(out('replaced file')).at(-1)}`);
  });

  it('deleted: the run goes on to its end', async () => {
    const model = modelOf('deleted model');
    const options = { ...optionsFor('deleted file'), model, saveSteps: 2 };
    rightAfter(1, () => rmSync(unetOf(model)));
    expect((await train(options)).step).toBe(12);
  });
});
