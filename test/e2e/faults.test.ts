/**
 * @file What can happen to a run in a night: kills, full disks, spoilt files, NaN.
 * `KILLS=30 npx vitest run test/e2e/faults.test.ts` kills more often than the 8 times of a usual test run.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  cpSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { listCheckpoints } from '../../src/adapters/adapter-path.js';
import { verifyCheckpoint } from '../../src/training/checkpoints/checkpoint.js';
import { target } from '../golden.js';
import { type Change, type Fault, KillSweep } from '../long/kill-sweep.js';
import { command, expectSame, leftIn, stepsToldIn, train, when, words as wordsIn } from './faulty-run.js';
import { makeWorld, type World } from './world.js';

// Each test starts a program several times, which takes a second, or ten where other work is going on.
vi.setConfig({ testTimeout: 180_000 });

let world: World;
beforeAll(async () => {
  world = await makeWorld(8);
});
afterAll(() => world.remove());

const out = (name: string): string => join(world.root, name);
const words = (outputDir: string, ...more: string[]): string[] => wordsIn(world, outputDir, ...more);

/** Numbers in [0, 1) that are the same in every test run (Mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

describe('kill -9', () => {
  const kills = Number(process.env.KILLS ?? 5);

  it(
    `${kills} times at random moments, resumed each time: every checkpoint is whole, and the end is the same to the byte`,
    async () => {
      const [killed, whole] = [out('killed'), out('whole')];
      const flags = ['--save-steps', '1', '--checkpoints-total-limit', '2'];
      const random = seeded(1);
      const resume = (): string[] => (listCheckpoints(killed).length > 0 ? ['--resume'] : []);
      // What is half done has a name that begins with a dot.
      const isSaving = (): boolean =>
        existsSync(killed) && readdirSync(killed).some((name) => name.startsWith('.checkpoint'));
      let startUp = 1000;
      const found = { starting: 0, training: 0, saving: 0 };
      for (let i = 0; i < kills; i++) {
        const moment = random();
        const started = performance.now();
        const child = spawn(process.execPath, words(killed, ...flags, ...resume()));
        let text = '';
        child.stderr.on('data', (chunk) => {
          text += chunk;
        });
        const ended = once(child, 'close');
        const has = async (written: string): Promise<void> => {
          while (!text.includes(written) && child.exitCode === null) await sleep(2);
        };
        // In turn: at any time after the start, after the first step has begun, while a checkpoint is written.
        if (i % 3 === 0) await sleep(startUp * moment);
        else {
          await has('Training');
          startUp = performance.now() - started;
          if (i % 3 === 2) {
            await has('Saved');
            while (!isSaving() && child.exitCode === null) await sleep(1);
          }
          await sleep((i % 3 === 2 ? 40 : 400) * moment);
        }
        child.kill('SIGKILL');
        expect(await ended, text).toEqual([null, 'SIGKILL']);
        found[text.includes('Training') ? 'training' : 'starting']++;
        if (isSaving()) found.saving++;
        for (const path of listCheckpoints(killed)) verifyCheckpoint(path);
      }
      console.log(`kills by what the run was doing: ${JSON.stringify(found)}`);

      const reached = Number(/\d+$/.exec(listCheckpoints(killed).at(-1) ?? '')?.[0]);
      const last = ['--max-steps', String(reached + 2)];
      const resumed = await train(words(killed, ...flags, ...last, '--resume'));
      expect(resumed.stderr).toContain(`from step ${reached}`);
      expect(leftIn(killed)).toEqual(
        [`checkpoint-${reached + 1}`, `checkpoint-${reached + 2}`, 'metrics.jsonl'].sort(),
      );
      expect((await train(words(whole, ...last))).exitCode).toBe(0);
      expectSame(killed, whole, reached + 2);
    },
    60_000 + 10_000 * kills,
  );
});

describe('a change of the file system at which the process is killed, or which the system refuses', () => {
  it('a sample of all of them (test/long has each): the resumed run ends as one that nothing happened to', async () => {
    const sweep = new KillSweep(world);
    const changes = await sweep.changes();
    const faults = ['KILL', 'KILL', 'ENOSPC', 'EIO'] as const;
    const samples = 8;
    for (let i = 0; i < samples; i++) {
      const at = Math.floor(((i + 0.5) * changes.length) / samples);
      await sweep.check(changes[at] as Change, faults[i % faults.length] as Fault);
    }
  });
});

describe('a checkpoint that was spoilt', () => {
  it('is refused with the file named, and the newest that is whole is the way on', async () => {
    const folder = out('spoilt');
    await train(words(folder, '--save-steps', '1', '--max-steps', '2'));
    const file = join(folder, 'checkpoint-2', 'optimizer.safetensors');
    const bytes = readFileSync(file);
    bytes[bytes.length - 1000] = (bytes[bytes.length - 1000] as number) ^ 1;
    writeFileSync(file, bytes);
    const refused = await train(words(folder, '--max-steps', '3', '--resume'));
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr).toBe(
      `CheckpointError: ${file} is damaged: its SHA-256 is not the one in SHA256SUMS, so it was cut short or changed after it was written; the newest complete checkpoint is checkpoint-1: resume with --resume ${join(folder, 'checkpoint-1')}`,
    );
    const good = await train(words(folder, '--max-steps', '3', '--resume', join(folder, 'checkpoint-1')));
    expect(good.stdout).toBe(join(folder, 'checkpoint-3'));
    expect(stepsToldIn(folder)).toEqual([1, 2, 3]);
  });
});

describe('a full disk', () => {
  /** A disk of its own of that size, or undefined where mounting is not allowed. A checkpoint takes 1 MiB. */
  function mountDisk(size: string): { path: string; grow(to: string): void; unmount(): void } | undefined {
    const path = mkdtempSync(join(tmpdir(), 'ip-adapter-disk-'));
    const mount = (options: string): boolean =>
      spawnSync('mount', ['-t', 'tmpfs', '-o', options, 'tmpfs', path]).status === 0;
    if (!mount(`size=${size}`)) {
      rmdirSync(path);
      return undefined;
    }
    return {
      path,
      grow: (to) => expect(mount(`remount,size=${to}`)).toBe(true),
      unmount: () => {
        spawnSync('umount', [path]);
        rmdirSync(path);
      },
    };
  }

  it('at the last save: exit code 2, the checkpoint before is whole, and with room the run goes on to the same end', async ({
    skip,
  }) => {
    const disk = mountDisk('1536k');
    if (disk === undefined) return skip('mounting a tmpfs is not allowed here');
    try {
      const flags = ['--save-steps', '2', '--max-steps', '4'];
      const folder = join(disk.path, 'out');
      const full = await train(words(folder, ...flags));
      expect(full.exitCode).toBe(2);
      expect(full.stderr).toMatch(
        /The checkpoint of step 4 could not be written: ENOSPC.*\. The run continues, and tries again at the next save\n/,
      );
      expect(full.stderr).toMatch(
        /TrainingError: The checkpoint of step 4 could not be written: ENOSPC.* Free space in .*--resume .*checkpoint-2$/m,
      );
      expect(full.stdout).toBe('');
      expect(leftIn(folder)).toEqual(['checkpoint-2', 'metrics.jsonl']);
      verifyCheckpoint(join(folder, 'checkpoint-2'));

      disk.grow('32m');
      expect((await train(words(folder, ...flags, '--resume'))).exitCode).toBe(0);
      await train(words(out('never full'), ...flags));
      expectSame(folder, out('never full'), 4);
    } finally {
      disk.unmount();
    }
  });

  it('in between: the run goes on, saves when there is room again, and has told of every step', async ({
    skip,
  }) => {
    const disk = mountDisk('32m');
    if (disk === undefined) return skip('mounting a tmpfs is not allowed here');
    try {
      const [folder, filler] = [join(disk.path, 'out'), join(disk.path, 'filler')];
      const fill = when('Training', () => {
        expect(() => writeFileSync(filler, Buffer.alloc(33 * 2 ** 20))).toThrow(/ENOSPC/);
      });
      const makeRoom = when('could not be written', () => rmSync(filler));
      const { exitCode, stderr } = await train(
        words(folder, '--save-steps', '10', '--max-steps', '60', '--checkpoints-total-limit', '1'),
        (text, child) => {
          fill(text, child);
          makeRoom(text, child);
        },
      );
      expect(stderr).toMatch(/metrics\.jsonl waits until it can be written again: ENOSPC/);
      expect(stderr).toMatch(/The checkpoint of step 10 could not be written: ENOSPC/);
      expect(exitCode).toBe(0);
      expect(leftIn(folder)).toEqual(['checkpoint-60', 'metrics.jsonl']);
      expect(stepsToldIn(folder)).toEqual(Array.from({ length: 60 }, (_, i) => i + 1));
    } finally {
      disk.unmount();
    }
  });

  it('from the start, or while the cache is filled: its own words, exit code 2', async ({ skip }) => {
    const disk = mountDisk('64k');
    if (disk === undefined) return skip('mounting a tmpfs is not allowed here');
    try {
      const cached = await train(
        words(out('no room'), '--max-steps', '1', '--cache', 'latents,text,image', '--cache-dir', disk.path),
      );
      expect([cached.exitCode, cached.stderr]).toEqual([
        2,
        expect.stringMatching(/ENOSPC: .*\.safetensors': make room on its disk, or give another folder$/),
      ]);
      expect(existsSync(out('no room'))).toBe(false);
      expect(() => writeFileSync(join(disk.path, 'filler'), Buffer.alloc(2 ** 17))).toThrow(/ENOSPC/);
      const started = await train(words(join(disk.path, 'out'), '--max-steps', '1'));
      expect([started.exitCode, started.stderr]).toEqual([
        2,
        expect.stringMatching(/--output-dir .*ENOSPC: no space left on device$/),
      ]);
    } finally {
      disk.unmount();
    }
  });
});

describe('NaN', () => {
  /** A copy of the world's model in which a caption with the letter d, row 3's, has a NaN in its embedding. */
  function modelWithNan(): string {
    const model = out('model with NaN');
    cpSync(out('model'), model, { recursive: true });
    const file = join(model, 'text_encoder', 'model.safetensors');
    const bytes = readFileSync(file);
    const dataStart = 8 + Number(bytes.readBigUInt64LE());
    const header = JSON.parse(bytes.toString('utf8', 8, dataStart));
    const { dtype, shape, data_offsets } = header['text_model.embeddings.token_embedding.weight'];
    expect(dtype).toBe('F32');
    const { 'd</w>': token } = JSON.parse(readFileSync(join(model, 'tokenizer', 'vocab.json'), 'utf8'));
    bytes.writeFloatLE(Number.NaN, dataStart + data_offsets[0] + token * shape[1] * 4);
    writeFileSync(file, bytes);
    return model;
  }

  it('stops before the update, names step, timesteps and rows; skipped on request, the run ends with sound weights', async () => {
    const model = ['--pretrained_model_name_or_path', modelWithNan()];
    const flags = [...model, '--seed', '1', '--save-steps', '1', '--max-steps', '6'];
    const [stopped, skipped] = [out('NaN stops'), out('NaN skipped')];
    const { exitCode, stderr } = await train(words(stopped, ...flags));
    expect(exitCode).toBe(2);
    const [, step] =
      /TrainingError: Expected a finite loss .* the loss is NaN in step (\d); timesteps (?:\d+, ){1,2}\d+; rows .*3 \(\S+3\.png\)/.exec(
        stderr,
      ) ?? [];
    expect(Number(step), stderr).toBeGreaterThan(1);
    expect(listCheckpoints(stopped)).toHaveLength(Number(step) - 1);
    for (const path of listCheckpoints(stopped)) verifyCheckpoint(path);
    // A GPU's steps are told, and looked at after.
    expect(stepsToldIn(stopped)).toHaveLength(Number(step) - (target.device === 'cpu' ? 1 : 0));

    expect(stderr).toContain(`; resume with --resume ${listCheckpoints(stopped).at(-1)}`);

    // From the checkpoint before, and from the start: the same.
    const onwards = await train(words(stopped, ...flags, '--max-nan-steps', '6', '--resume'));
    expect(onwards.exitCode).toBe(0);
    const whole = await train(words(skipped, ...flags, '--max-nan-steps', '6'));
    expect(whole.stderr).toMatch(/Skipped a batch \(1 of at most 6\): the loss is NaN in step \d/);
    expectSame(stopped, skipped, 6);
    expect(stepsToldIn(skipped)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(readFileSync(join(skipped, 'metrics.jsonl'), 'utf8')).not.toContain('null');
  });

  it('of a learning rate that is far too large: nothing of it is written', async () => {
    const folder = out('1e30');
    const { exitCode, stderr } = await train(words(folder, '--learning-rate', '1e30'));
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(
      /TrainingError: .* (NaN|Infinity) in step 2;.* there is no checkpoint to resume: start again/,
    );
    expect(leftIn(folder)).toEqual(['metrics.jsonl']);
  });
});

describe('corrupt pictures', () => {
  let large: World;
  beforeAll(async () => {
    large = await makeWorld(40);
  });
  afterAll(() => large.remove());
  const flags = (): string[] => [
    command,
    'train',
    ...large.flags,
    ...['--train_batch_size', '10', '--epochs', '1'],
  ];
  const spoil = (row: number): void => truncateSync(join(large.root, 'images', `${row}.png`), 60);

  it('5 %: the run completes, counts and names them; more than is borne: it stops and names some', async () => {
    for (const row of [7, 31]) spoil(row);
    const few = await train(flags());
    expect(few.exitCode).toBe(0);
    for (const row of [7, 31]) expect(few.stderr).toMatch(new RegExp(`Skipped \\S+/${row}\\.png: `));
    expect(few.stderr).toContain('2 rows were skipped');

    for (const row of [0, 1, 2, 3, 4, 5, 6]) spoil(row);
    const many = await train([...flags(), '--output-dir', join(large.root, 'many')]);
    expect(many.exitCode).toBe(2);
    expect(many.stderr).toMatch(/DatasetError: .* 9 of 40 are bad so far \(at most 8 are skipped\)/);
  });
});
