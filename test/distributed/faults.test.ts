/** @file What ends a process of several, and what is left: an exit code, words, and a newest checkpoint that is whole. */
import type { ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it, vi } from 'vitest';
import { listCheckpoints, stepOf } from '../../src/adapters/adapter-path.js';
import { readSafetensors, writeSafetensors } from '../../src/formats/index.js';
import { full } from '../../src/torch/index.js';
import { verifyCheckpoint } from '../../src/training/checkpoints/checkpoint.js';
import { ipAdapter } from '../e2e/command.js';
import { makeWorld, type World } from '../e2e/world.js';
import { tarOf } from '../write-tar.js';
import { byFile, byPort, startRanks } from './ranks.js';
import { bytesOf, largestDifference, lossesOf, run, stepsOf, trainWords } from './runs.js';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

let world: World;
beforeAll(async () => {
  world = await makeWorld(14);
});
afterAll(() => world.remove());

const at = (...parts: string[]): string => join(world.root, ...parts);
const endless = { rows: 4, max_train_steps: 100_000, save_steps: 2, checkpoints_total_limit: 2 };

/** Returns the processes of a launcher, by rank. */
function pidsOf({ pid }: ChildProcess): number[] {
  const children = readFileSync(`/proc/${pid}/task/${pid}/children`, 'utf8').trim().split(' ').map(Number);
  const rankOf = (child: number) =>
    Number(/\0RANK=(\d+)\0/.exec(readFileSync(`/proc/${child}/environ`, 'utf8'))?.[1]);
  return children.sort((a, b) => rankOf(a) - rankOf(b));
}

/** Runs a training, and does something to it when its n-th checkpoint is saved. */
async function disturbed(
  name: string,
  options: Record<string, unknown>,
  disturb: (launcher: ChildProcess, ranks: number[]) => void,
  n = 2,
) {
  let at = 0;
  const ended = await run(
    trainWords(world, name, { ...endless, processes: 2, ...options }),
    (text, child) => {
      if (at > 0 || (text.match(/^Saved/gm)?.length ?? 0) < n) return;
      at = performance.now();
      disturb(child, pidsOf(child));
    },
  );
  return { ...ended, seconds: (performance.now() - at) / 1000 };
}

/** Checks the newest checkpoint, and returns its step. */
function wholeCheckpoint(name: string): number {
  const newest = listCheckpoints(at(name)).at(-1) as string;
  verifyCheckpoint(newest);
  return stepOf(newest);
}

it.each([0, 1])('rank %i is killed', async (killed) => {
  const name = `killed-${killed}`;
  const { exitCode, stderr, seconds } = await disturbed(name, {}, (_, ranks) =>
    process.kill(ranks[killed] as number, 'SIGKILL'),
  );
  expect(exitCode).toBe(137);
  expect(stderr).toMatch(
    new RegExp(
      `rank ${killed} \\(process \\d+\\) was ended by SIGKILL, .*memory.*\\. The other processes were ended\\.`,
    ),
  );
  expect(stderr).toMatch(/To resume: the same command with --resume$/);
  expect(seconds).toBeLessThan(15);
  const step = wholeCheckpoint(name);
  const resumed = await run(
    trainWords(world, name, { ...endless, processes: 2, max_train_steps: step + 2, resume: 'auto' }),
  );
  expect(resumed.exitCode, resumed.stderr).toBe(0);
});

it('a rank hangs: it is killed after the timeout', async () => {
  const { exitCode, stderr, seconds } = await disturbed('hung', { distributed_timeout: 4 }, (_, ranks) =>
    process.kill(ranks[1] as number, 'SIGSTOP'),
  );
  expect(exitCode).toBe(1);
  expect(stderr).toMatch(/rank 1 \(process \d+\) hung and was killed/);
  expect(seconds).toBeLessThan(14);
  wholeCheckpoint('hung');
});

it('a signal to one rank stops all after the same step, with a checkpoint', async () => {
  const { exitCode, stderr, stdout } = await disturbed('stopped', {}, (_, ranks) =>
    process.kill(ranks[1] as number, 'SIGTERM'),
  );
  expect(exitCode, stderr).toBe(143);
  expect(stderr).not.toMatch(/failed with/);
  const [, step] = /Stopped after step (\d+)\. To resume/.exec(stderr) ?? [];
  expect(stdout).toBe(at('stopped', `checkpoint-${step}`));
  expect(wholeCheckpoint('stopped')).toBe(Number(step));
  expect(stepsOf(world, 'stopped').at(-1)?.step).toBe(Number(step));
});

it('a signal to one rank while images are scored stops all, with a checkpoint', async () => {
  const scoring = {
    validation_split: 4,
    validation_scores: 4,
    validation_steps: 1,
    // Four images, each with, without and with another's adapter: seconds, of which the signal comes in the first.
    validation_sampling_steps: 60,
  };
  const { exitCode, stderr } = await disturbed(
    'stopped-scoring',
    { ...scoring, save_steps: 1 },
    (_, ranks) => process.kill(ranks[1] as number, 'SIGTERM'),
    1,
  );
  expect(exitCode, stderr).toBe(143);
  expect(stderr).not.toMatch(/failed with|held-out references: retrieval/);
  expect(wholeCheckpoint('stopped-scoring')).toBe(
    Number(/Stopped after step (\d+)\. To resume/.exec(stderr)?.[1]),
  );
});

it('Ctrl-C to the launcher stops all, with a checkpoint', async () => {
  const { exitCode, stderr } = await disturbed('interrupted', {}, (launcher) => launcher.kill('SIGINT'));
  expect(exitCode, stderr).toBe(130);
  const [, step] = /Stopped after step (\d+)\. To resume/.exec(stderr) ?? [];
  expect(wholeCheckpoint('interrupted')).toBe(Number(step));
  expect(stderr.match(/finishing this step/g)).toHaveLength(1);
});

it('Ctrl-C while a rank hangs: the command ends all the same', async () => {
  const { exitCode, stderr, seconds } = await disturbed(
    'both',
    { distributed_timeout: 4 },
    (launcher, ranks) => {
      process.kill(ranks[1] as number, 'SIGSTOP');
      launcher.kill('SIGINT');
    },
  );
  expect(exitCode).not.toBe(0);
  expect(stderr).toMatch(/rank 1 \(process \d+\) hung and was killed/);
  expect(seconds).toBeLessThan(14);
});

it('the launcher is killed: the processes stop by themselves, with a checkpoint', async () => {
  let pids: number[] = [];
  await disturbed('orphans', {}, (launcher, ranks) => {
    pids = ranks;
    launcher.kill('SIGKILL');
  });
  const isRunning = (pid: number) => existsSync(`/proc/${pid}`);
  for (let waited = 0; pids.some(isRunning) && waited < 100; waited++) await sleep(100);
  expect(pids.filter(isRunning)).toEqual([]);
  wholeCheckpoint('orphans');
  expect(existsSync(at('orphans', '.lock'))).toBe(false);
});

it('--max-restarts: starts again from the newest checkpoint, and ends with the same bytes', async () => {
  const options = { max_train_steps: 12, max_restarts: 2 };
  const { exitCode, stderr } = await disturbed(
    'restarted',
    options,
    (_, ranks) => process.kill(ranks[1] as number, 'SIGKILL'),
    1,
  );
  expect(exitCode, stderr).toBe(0);
  expect(stderr).toMatch(/Starting the processes again, from step \d+ \(restart 1 of at most 2\)/);
  const calm = await run(trainWords(world, 'calm', { ...endless, ...options, processes: 2 }));
  expect(calm.exitCode, calm.stderr).toBe(0);
  expect(bytesOf(world, 'restarted', 12).equals(bytesOf(world, 'calm', 12))).toBe(true);
});

it('a failure that would come again is not repeated, and one without a new checkpoint neither', async () => {
  const wrong = await run(
    trainWords(world, 'wrong', {
      ...endless,
      processes: 2,
      max_restarts: 3,
      image_encoder_path: at('nowhere'),
    }),
  );
  expect(wrong.exitCode).toBe(2);
  expect(wrong.stderr).not.toMatch(/Starting the processes again/);
  expect(wrong.stderr).toMatch(/CheckpointError|ConfigError/);
});

it('NaN at one rank: all skip the same batch, and its row is named', async () => {
  const options = {
    rows: 4,
    max_train_steps: 6,
    cache: 'latents',
    cache_dir: at('cache'),
    max_nan_steps: 50,
  };
  expect((await run(trainWords(world, 'fill', { ...options, max_train_steps: 1 }))).exitCode).toBe(0);
  const [folder] = readdirSync(at('cache')) as [string];
  const [shard] = readdirSync(at('cache', folder)) as [string];
  const file = at('cache', folder, shard);
  const { tensors, metadata } = readSafetensors(file);
  const rows = tensors.get('rows')?.clone();
  rows?.slice(0, 3, 4).copy_(full([], Number.NaN));
  writeSafetensors(file, new Map([['rows', rows as NonNullable<typeof rows>]]), metadata);

  const one = await run(trainWords(world, 'nan-1', options));
  const two = await run(trainWords(world, 'nan-2', { ...options, processes: 2 }));
  for (const { exitCode, stderr } of [one, two]) {
    expect(exitCode, stderr).toBe(0);
    expect(stderr).toMatch(/Skipped a batch .*the loss is NaN .*rows \S*.*\b3 \(\S+\/3\.png\)/);
  }
  expect(largestDifference(lossesOf(world, 'nan-1'), lossesOf(world, 'nan-2'))).toBeLessThan(1e-6);
  const stopped = await run(trainWords(world, 'nan-3', { ...options, max_nan_steps: 0, processes: 2 }));
  expect(stopped.exitCode).toBe(2);
  expect(stopped.stderr).toMatch(
    /TrainingError: Expected a finite loss rank 1.*3 \(\S+\/3\.png\)|Expected a finite loss .*rank 0.*3 \(\S+\/3\.png\)/,
  );
});

it('too many unreadable images: every process ends with the reason', async () => {
  const bad = await makeWorld(14);
  try {
    for (let i = 0; i < 13; i++) writeFileSync(join(bad.root, 'images', `${i}.png`), 'not an image');
    const { exitCode, stderr } = await run(trainWords(bad, 'out', { ...endless, processes: 2 }));
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(/DatasetError: Expected a readable image for every row/);
  } finally {
    bad.remove();
  }
});

/** Starts two processes by hand, each with words of its own, which both must refuse. */
async function refusedByBoth(words: readonly [string[], string[]], message: string): Promise<void> {
  const environments = await byPort(2);
  const ranks = environments.flatMap((env, rank) =>
    startRanks([ipAdapter, ...(words[rank] as string[]), '--distributed-timeout', '30'], [env]),
  );
  for (const { code, err } of await Promise.all(ranks.map(({ ended }) => ended))) {
    expect(err).toContain(
      `ConfigError: Processes that train together need the same options and data, but ${message}`,
    );
    expect(code).toBe(2);
  }
}

it('started by hand: an option at one rank that leads to other collectives is named by all', async () => {
  const words = trainWords(world, 'by-hand', endless);
  // The processes read the sizes of images together.
  await refusedByBoth(
    [words, [...words, '--buckets']],
    '--buckets is false at rank 0 but true at rank 1. Start all with the same command',
  );
});

it('started by hand: another caption at one rank is named by all', async () => {
  const rows = JSON.parse(readFileSync(at('data.json'), 'utf8')) as { text: string }[];
  writeFileSync(at('other.json'), JSON.stringify(rows.with(-1, { ...rows.at(-1), text: 'another' })));
  const words = (dataset: string) =>
    trainWords(world, 'by-hand', { ...endless, max_train_steps: 1, data_json_file: at(dataset) });
  await refusedByBoth([words('data.json'), words('other.json')], 'the fingerprint of the dataset is "');
});

it('started by hand: a dataset of another form at one rank is named by all', async () => {
  const tar = await tarOf([
    ['0.png', readFileSync(at('images', '0.png'))],
    ['0.txt', 'a'],
  ]);
  writeFileSync(at('shard.tar'), tar);
  const json = trainWords(world, 'by-hand', endless);
  const shards = trainWords(world, 'by-hand', {
    ...{ ...endless, dataset: at('shard.tar') },
    ...{ data_json_file: undefined, data_root_path: undefined },
  });
  // Shards are listed together.
  await refusedByBoth([json, shards], 'the number of rows is 14 at rank 0 but unset at rank 1');
});

it('started by hand: --num-processes of another number is refused', async () => {
  const [first] = byFile(2) as [NodeJS.ProcessEnv];
  const words = trainWords(world, 'by-hand', { ...endless, processes: 4 });
  const { exitCode, stderr } = await run(words, undefined, first);
  expect(exitCode).toBe(2);
  expect(stderr).toMatch(/--num-processes is 4, but this is rank 0 of 2 processes/);
});

it('options that one process alone can take are refused', async () => {
  for (const [more, message] of [
    [['--dry-run'], /--dry-run does not go together with --num-processes 2/],
    [['--device', 'cuda:0'], /--device cuda:0 does not go together/],
    [['--num-processes', '0'], /--num-processes is "0"; it must be a whole number from 1 to 1,024/],
  ] as const) {
    const { exitCode, stderr } = await run([
      ...trainWords(world, 'refused', { ...endless, processes: 2 }),
      ...more,
    ]);
    expect(exitCode).toBe(2);
    expect(stderr).toMatch(message);
  }
});
