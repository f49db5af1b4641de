import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { adapterFileOf } from '../../adapters/adapter-path.js';
import { readSafetensors } from '../../formats/index.js';
import { type Tensor, tensor } from '../../torch/index.js';
import { type Checkpoint, findCheckpoint, loadCheckpoint, saveCheckpoint } from './checkpoint.js';
import { describeCheckpoints, planCheckpoints } from './disk-space.js';
import { clearLeftovers, restoreReplaced, writeFolder } from './folder.js';
import { CheckpointKeeper } from './keeper.js';

let out: string;
beforeEach(() => {
  out = mkdtempSync(join(tmpdir(), 'ip-adapter-checkpoint-'));
});
afterEach(() => rmSync(out, { recursive: true, force: true }));

const weights = (...values: number[]): Map<string, Tensor> =>
  new Map([['image_proj.latents', tensor(Float32Array.from(values), [values.length])]]);

function contentOf(step: number, adapter = weights(step, 2, 3)): Checkpoint {
  const dataset = { rows: 3, fingerprint: 'f' };
  return {
    state: { step, totalSteps: 20, updates: step, epoch: 1, position: 2, dataset, options: { seed: 7 } },
    adapter,
    ema: undefined,
    optimizer: new Map([['exp_avg.image_proj.latents', tensor(Float32Array.of(4, 5, 6), [3])]]),
    generator: Uint8Array.of(1, 2, 3),
  };
}

const save = (...steps: number[]): string[] => steps.map((step) => saveCheckpoint(out, contentOf(step)));
const names = (): string[] => readdirSync(out).sort();

it('gives back what was saved', () => {
  const [path] = save(10) as [string];
  const { state, optimizer, generator } = loadCheckpoint(path);
  expect(state).toEqual(contentOf(10).state);
  expect([...generator]).toEqual([1, 2, 3]);
  expect(optimizer.get('exp_avg.image_proj.latents')?.toNumbers()).toEqual([4, 5, 6]);
  const adapter = readSafetensors(join(path, 'ip_adapter.safetensors')).tensors;
  expect(adapter.get('image_proj.latents')?.toNumbers()).toEqual([10, 2, 3]);
});

describe('what is damaged', () => {
  const files = ['ip_adapter.safetensors', 'optimizer.safetensors', 'training_state.json', 'SHA256SUMS'];

  it.each(files)('a flipped bit anywhere in %s is found, and the file named', (file) => {
    const [path] = save(10) as [string];
    const whole = readFileSync(join(path, file));
    for (let at = 0; at < whole.length; at += Math.max(1, Math.floor(whole.length / 40))) {
      const spoilt = Buffer.from(whole);
      spoilt[at] = (spoilt[at] as number) ^ 1;
      writeFileSync(join(path, file), spoilt);
      expect(() => findCheckpoint(out, path), `byte ${at}`).toThrow(
        /CheckpointError|is damaged|cannot be read/,
      );
    }
    writeFileSync(join(path, file), whole);
    expect(findCheckpoint(out, path)).toBe(path);
  });

  it.each(files)('%s cut short by a byte, emptied or missing is found, and the file named', (file) => {
    const [path] = save(10) as [string];
    const whole = readFileSync(join(path, file));
    for (const size of [whole.length - 1, Math.floor(whole.length / 2), 0]) {
      truncateSync(join(path, file), size);
      expect(() => findCheckpoint(out, path)).toThrow(join(path, file));
    }
    rmSync(join(path, file));
    expect(() => findCheckpoint(out, path)).toThrow(`Expected a file ${join(path, file)}`);
  });

  it('--resume names the newest checkpoint that is whole, and never takes it by itself', () => {
    const [first, second, third] = save(5, 10, 15) as [string, string, string];
    truncateSync(join(third, 'optimizer.safetensors'), 20);
    rmSync(join(second, 'ip_adapter.safetensors'));
    expect(() => findCheckpoint(out, true)).toThrow(
      `${join(third, 'optimizer.safetensors')} is damaged: its SHA-256 is not the one in SHA256SUMS, so it was cut short or changed after it was written; the newest complete checkpoint is checkpoint-5: resume with --resume ${first}`,
    );
    expect(findCheckpoint(out, first)).toBe(first);
    rmSync(first, { recursive: true });
    expect(() => findCheckpoint(out, true)).toThrow(/no other checkpoint is complete/);
  });
});

describe('complete or absent', () => {
  it('a write that fails leaves the checkpoint of the same name as it was', () => {
    const [path] = save(10) as [string];
    expect(() =>
      writeFolder(path, (folder) => {
        writeFileSync(join(folder, 'half'), '');
        throw new Error('no room');
      }),
    ).toThrow('no room');
    expect(names()).toEqual(['checkpoint-10']);
    expect(findCheckpoint(out, true)).toBe(path);
  });

  it('replaces one of the same name', () => {
    save(10);
    const path = saveCheckpoint(out, contentOf(10, weights(9)));
    expect(names()).toEqual(['checkpoint-10']);
    const { tensors } = readSafetensors(join(path, 'ip_adapter.safetensors'));
    expect(tensors.get('image_proj.latents')?.toNumbers()).toEqual([9]);
  });

  it('what a kill left half done is finished or taken back', () => {
    const [whole, replaced] = save(5, 10) as [string, string];
    cpSync(whole, join(out, '.checkpoint-15.partial'), { recursive: true });
    cpSync(whole, join(out, '.checkpoint-3.deleted'), { recursive: true });
    cpSync(whole, join(out, '.checkpoint-5.replaced'), { recursive: true });
    // Killed between the two renames of a replacement: the old one is the only one.
    renameSync(replaced, join(out, '.checkpoint-10.replaced'));
    mkdirSync(join(out, '.checkpoint-of-mine'));
    // It is seen before anything is deleted: by --resume, and by a fresh start, which must not mix with it.
    restoreReplaced(out);
    expect(names()).toHaveLength(6);
    expect(findCheckpoint(out, true)).toBe(replaced);
    expect(() => findCheckpoint(out, undefined)).toThrow(
      /holds the checkpoints of another run, up to checkpoint-10/,
    );
    clearLeftovers(out);
    expect(names()).toEqual(['.checkpoint-of-mine', 'checkpoint-10', 'checkpoint-5']);
    expect(findCheckpoint(out, true)).toBe(replaced);
  });
});

describe('keeping', () => {
  it('keeps the newest N, and later ones of before', () => {
    save(1, 2, 30);
    const keeper = new CheckpointKeeper(out, { checkpointsTotalLimit: 2 }, undefined);
    for (const step of [3, 4]) expect(keeper.save(contentOf(step), false)).toBe(true);
    expect(names()).toEqual(['checkpoint-3', 'checkpoint-30', 'checkpoint-4']);
    expect(keeper.newest).toBe(join(out, 'checkpoint-4'));
    new CheckpointKeeper(out, { checkpointsTotalLimit: 1 }, undefined).save(contentOf(5), false);
    expect(names()).toEqual(['checkpoint-30', 'checkpoint-5']);
  });

  it('deletes at a resume what a killed run had not yet, and nothing of another folder', () => {
    const [, second] = save(1, 2, 30) as [string, string];
    const other = mkdtempSync(join(tmpdir(), 'ip-adapter-other-'));
    new CheckpointKeeper(other, { checkpointsTotalLimit: 1 }, second);
    new CheckpointKeeper(out, {}, second);
    expect(names()).toEqual(['checkpoint-1', 'checkpoint-2', 'checkpoint-30']);
    new CheckpointKeeper(out, { checkpointsTotalLimit: 1 }, second);
    expect(names()).toEqual(['checkpoint-2', 'checkpoint-30']);
    rmSync(other, { recursive: true });
  });

  it('says what --resume would take where later checkpoints are left', () => {
    const [first, third] = save(1, 3) as [string, string];
    const messages: string[] = [];
    const open = (resumed: string | undefined) =>
      new CheckpointKeeper(out, {}, resumed, (text) => messages.push(text));
    open(third);
    open(undefined);
    expect(messages).toEqual([]);
    open(first);
    expect(messages).toEqual([
      expect.stringMatching(/^Later checkpoints, up to checkpoint-3, remain in .* delete the later ones$/),
    ]);
  });

  it('keeps all without a limit', () => {
    const keeper = new CheckpointKeeper(out, {}, undefined);
    for (const step of [1, 2, 3]) keeper.save(contentOf(step), false);
    expect(names()).toEqual(['checkpoint-1', 'checkpoint-2', 'checkpoint-3']);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])('never writes weights that hold %d', (bad) => {
    const [good] = save(1) as [string];
    const keeper = new CheckpointKeeper(out, { checkpointsTotalLimit: 1 }, good);
    expect(() => keeper.save(contentOf(2, weights(1, bad, 3)), false)).toThrow(
      `Expected finite weights after step 2 but image_proj.latents has ${bad}. No checkpoint was written; resume with --resume ${good}`,
    );
    expect(names()).toEqual(['checkpoint-1']);
    expect(existsSync(good)).toBe(true);
  });

  it('takes back at its start what a run that was killed left', () => {
    mkdirSync(join(out, '.checkpoint-7.partial'));
    new CheckpointKeeper(out, {}, undefined);
    expect(names()).toEqual([]);
  });
});

describe('--checkpoint-content adapter', () => {
  const kept = { checkpointContent: 'adapter' } as const;

  it('older checkpoints lose the optimizer and stay adapters; the newest is whole', () => {
    const keeper = new CheckpointKeeper(out, kept, undefined);
    for (const step of [1, 2, 3]) expect(keeper.save(contentOf(step), step === 3)).toBe(true);
    const files = (step: number) => readdirSync(join(out, `checkpoint-${step}`)).sort();
    const adapter = ['SHA256SUMS', 'ip_adapter.safetensors', 'training_state.json'];
    expect([files(1), files(2)]).toEqual([adapter, adapter]);
    expect(files(3)).toContain('optimizer.safetensors');
    expect(findCheckpoint(out, true)).toBe(join(out, 'checkpoint-3'));
    expect(() => findCheckpoint(out, join(out, 'checkpoint-2'))).toThrow(
      /checkpoint-2 cannot be resumed: it has only its adapter.*--adapter .*checkpoint-2; the newest complete checkpoint is checkpoint-3/,
    );
    expect(adapterFileOf(join(out, 'checkpoint-1'))).toBe(
      join(out, 'checkpoint-1', 'ip_adapter.safetensors'),
    );
  });

  it('finishes what a kill between the checksums and the file left', () => {
    const [older, newest] = save(1, 2) as [string, string];
    const sums = readFileSync(join(older, 'SHA256SUMS'), 'utf8').split('\n');
    writeFileSync(join(older, 'SHA256SUMS'), sums.filter((line) => !line.includes('optimizer')).join('\n'));
    new CheckpointKeeper(out, kept, newest);
    expect(existsSync(join(older, 'optimizer.safetensors'))).toBe(false);
  });

  it('plans the disk: what is left, and the most at a time', () => {
    const { sizes, ...rest } = planCheckpoints(contentOf(0), { saveSteps: 5, ...kept });
    expect(sizes.adapter).toBeLessThan(sizes.whole);
    const bytes = sizes.whole + 3 * sizes.adapter;
    expect(rest).toEqual({ count: 4, bytes, peakBytes: bytes + sizes.whole - sizes.adapter });
    const two = planCheckpoints(contentOf(10), {
      saveSteps: 3,
      checkpointsTotalLimit: 2,
      checkpointContent: 'all',
    });
    expect(two).toMatchObject({ count: 2, bytes: 2 * two.sizes.whole, peakBytes: 3 * two.sizes.whole });
    expect(planCheckpoints(contentOf(20), { saveSteps: 3, ...kept })).toMatchObject({
      count: 0,
      peakBytes: 0,
    });
    const text = describeCheckpoints({ ...two, peakBytes: 2 ** 60 }, join(out, 'not/yet'));
    expect(text).toMatch(/the run leaves 2, .*, too little: give --checkpoints-total-limit/);
  });
});
