/** @file A second run in a folder, and the signals that a run gets. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { listCheckpoints } from '../../src/adapters/adapter-path.js';
import { verifyCheckpoint } from '../../src/training/checkpoints/checkpoint.js';
import type { Ended } from './command.js';
import { isLocked, leftIn, stepsToldIn, train, when, words as wordsIn } from './faulty-run.js';
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

describe('another run', () => {
  it('in the same folder is refused, naming process, host and start; when it has ended, the folder is free', async () => {
    const folder = out('shared');
    let first: Promise<Ended> | undefined;
    await new Promise((resolve) => {
      first = train(words(folder), when('Training', resolve));
    });
    const refused = await train(words(folder));
    const owner = /is in use by process (\d+) on (\S+), since (\d{4}-\S+Z)\. Wait until it ends/.exec(
      refused.stderr,
    );
    expect(refused.exitCode).toBe(2);
    process.kill(Number(owner?.[1]), 'SIGTERM');
    const ended = (await first) as Ended;
    expect(ended.exitCode).toBe(143);
    expect(isLocked(folder)).toBe(false);
    const step = Number(/\d+$/.exec(ended.stdout)?.[0]);
    const third = await train(words(folder, '--resume', '--max-steps', String(step + 1)));
    expect(third.stdout).toBe(join(folder, `checkpoint-${step + 1}`));
  });

  it('with other options or another dataset does not resume, and says what is different', async () => {
    const folder = out('options');
    await train(words(folder, '--max-steps', '1'));
    const data = out('changed.json');
    const rows = JSON.parse(readFileSync(out('data.json'), 'utf8'));
    writeFileSync(data, JSON.stringify(rows.slice(1)));
    const refused = await train(
      words(folder, '--resume', '--seed', '5', '--resolution', '128', '--data_json_file', data),
    );
    expect(refused.exitCode).toBe(2);
    expect(refused.stderr.split('\n').slice(1)).toEqual([
      expect.stringMatching(/^ConfigError: --resolution is 128 but \S+checkpoint-1 was trained with 64;/),
      expect.stringMatching(/^--seed is 5 but \S+checkpoint-1 was trained with 0;/),
      expect.stringMatching(/^The dataset is not the one .*: it had 8 rows and has 7;/),
    ]);
    const allowed = await train(words(folder, '--resume', '--max-steps', '2', '--learning-rate', '1e-3'));
    expect(allowed.exitCode).toBe(0);
    expect(allowed.stderr).toMatch(
      /--learning-rate is 0\.001 but .* trained with 0\.0001; continuing with 0\.001/,
    );
  });
});

describe('signals', () => {
  it('while it starts: exit code 143, and nothing that is half written', async () => {
    const folder = out('early');
    const { exitCode } = await train(
      words(folder),
      when('UNet2DConditionModel', (child) => child.kill('SIGTERM')),
    );
    expect(exitCode).toBe(143);
    // A first step may have begun by then, and is ended.
    for (const name of existsSync(folder) ? leftIn(folder) : [])
      expect(name).toMatch(/^(checkpoint-\d+|metrics\.jsonl)$/);
    for (const path of listCheckpoints(folder)) verifyCheckpoint(path);
  });

  it('while the cache is filled: exit code 143, no half-written file, and what is done is kept', async () => {
    const [folder, cache] = [out('filling'), out('cache')];
    const flags = ['--cache', 'latents,text,image', '--cache-dir', cache, '--max-steps', '1'];
    const stopped = await train(
      words(folder, ...flags),
      when('Cache of image: 8 to encode', (child) => child.kill('SIGTERM')),
    );
    expect(stopped.exitCode).toBe(143);
    expect(existsSync(folder)).toBe(false);
    const files = readdirSync(cache, { recursive: true }).map(String);
    expect(files.filter((file) => file.endsWith('.partial'))).toEqual([]);
    const again = await train(words(folder, ...flags));
    expect(again.exitCode).toBe(0);
    expect(again.stderr).not.toContain('damaged');
    expect(again.stderr).toContain('Cache of latents: complete, 0 newly encoded');
  });

  it.each([
    ['SIGUSR1', 138],
    ['SIGUSR2', 140],
    ['SIGXCPU', 152],
    ['SIGQUIT', 131],
  ] as const)(
    '%s, which a scheduler sends before it kills: a checkpoint is written, exit code %d',
    async (name, code) => {
      const folder = out(name);
      const { exitCode, stderr, stdout } = await train(
        words(folder),
        when('Training', (child) => {
          child.kill(name);
          // A limit of CPU time is told every second.
          if (name !== 'SIGQUIT') setTimeout(() => child.kill(name), 5);
        }),
      );
      expect(exitCode, stderr).toBe(code);
      verifyCheckpoint(stdout);
      expect(stderr).toContain(`--resume ${stdout}`);
    },
  );

  it('SIGHUP of a terminal that is closed: the step is ended and a checkpoint written', async ({ skip }) => {
    if (spawnSync('script', ['--version']).status !== 0)
      return skip('there is no script(1) to make a terminal with');
    const folder = out('terminal');
    const line = [process.execPath, ...words(folder)].map((word) => `'${word}'`).join(' ');
    const terminal = spawn('script', ['-qec', line, '/dev/null'], { stdio: ['pipe', 'ignore', 'ignore'] });
    while (!existsSync(join(folder, 'metrics.jsonl'))) await sleep(20);
    terminal.kill('SIGKILL');
    while (isLocked(folder)) await sleep(20);
    const [path, ...more] = listCheckpoints(folder);
    expect(more).toEqual([]);
    verifyCheckpoint(path as string);
    expect(path).toBe(join(folder, `checkpoint-${stepsToldIn(folder).at(-1)}`));
  });

  it('SIGHUP without a terminal, as under nohup: the run goes on to its end', async () => {
    const { exitCode, stderr } = await train(
      words(out('nohup'), '--max-steps', '4'),
      when('Training', (child) => child.kill('SIGHUP')),
    );
    expect(stderr).toContain('SIGHUP: ignored, because the run has no terminal');
    expect(exitCode).toBe(0);
  });
});
