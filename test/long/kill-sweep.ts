/**
 * @file A short run with saves, cache and validation in which one change of the file system after another is made to
 * fail, or the process killed at it. It is resumed, and must end as one that nothing happened to.
 */
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';
import { type Ended, runProgram } from '../e2e/command.js';
import type { World } from '../e2e/world.js';

const root = fileURLToPath(new URL('../..', import.meta.url));
const preload = join(root, 'test', 'fault-injection.mjs');
const command = join(root, 'dist', 'cli', 'main.js');

/** What happens at a change: the process dies, or the system refuses. */
export type Fault = 'KILL' | 'ENOSPC' | 'EIO';

/** A change of the file system: its number from 1, the function and the path. */
export interface Change {
  number: number;
  name: string;
  path: string;
}

function train(world: World, outputDir: string, env: Record<string, string> = {}): Promise<Ended> {
  const flags = [
    ...[
      '--output_dir',
      outputDir,
      '--max_train_steps',
      '4',
      '--save_steps',
      '1',
      '--checkpoints_total_limit',
      '1',
    ],
    ...['--cache', 'latents,text,image', '--resume', 'auto', '--validation_steps', '2'],
    ...['--validation_image', join(world.root, 'images', '0.png'), '--validation_sampling_steps', '2'],
  ];
  const injected = Object.keys(env).length > 0 ? ['--import', preload] : [];
  return runProgram(process.execPath, [...injected, command, 'train', ...world.flags, ...flags], {
    cwd: root,
    env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
  });
}

export class KillSweep {
  readonly #world: World;
  readonly #whole: string;

  constructor(world: World) {
    this.#world = world;
    this.#whole = join(world.root, 'unharmed');
  }

  /** Runs without a fault. @returns the changes of the file system that the run makes */
  async changes(): Promise<Change[]> {
    const log = join(this.#world.root, 'changes');
    const { exitCode, stderr } = await train(this.#world, this.#whole, {
      FAULT_ROOT: this.#whole,
      FAULT_LOG: log,
    });
    expect(exitCode, stderr).toBe(0);
    return readFileSync(log, 'utf8')
      .trimEnd()
      .split('\n')
      .map((line) => {
        const [number, name = '', ...path] = line.split(' ');
        return { number: Number(number), name, path: path.join(' ') };
      });
  }

  /** Has the change fail, resumes the run, and checks that it ends as the whole one. */
  async check({ number, name, path }: Change, fault: Fault): Promise<void> {
    const folder = join(this.#world.root, `${fault} ${number}`);
    const where = `${fault} at change ${number}, ${name} ${path}`;
    const failed = await train(this.#world, folder, {
      FAULT_ROOT: folder,
      FAULT: fault,
      FAULT_AT: String(number),
    });
    const told = `${where}\n${failed.stderr}`;
    if (fault === 'KILL') expect(failed.exitCode, told).toBe(null);
    else {
      expect([0, 2], told).toContain(failed.exitCode);
      // In words, without a stack.
      expect(failed.stderr, told).not.toMatch(/^ {4}at /m);
    }
    // A run that ended well all the same has told what was refused, and the next one makes up for it: what was not deleted.
    const resumed = await train(this.#world, folder);
    expect(resumed.exitCode, `${told}\nresumed:\n${resumed.stderr}`).toBe(0);
    // A drawing that was refused is told, and is not worth a run.
    const refused = /step-\d+\.png(?= could not be written)/.exec(failed.stderr)?.[0];
    expect(contentOf(folder, refused), told).toEqual(contentOf(this.#whole, refused));
    rmSync(folder, { recursive: true });
  }
}

/** What a run leaves that must not depend on what happened to it: names, bytes of what was trained and drawn, losses. */
function contentOf(folder: string, refused?: string): unknown {
  const names = readdirSync(folder).filter((name) => name !== 'logs' && name !== 'cache');
  const files = [
    'checkpoint-4/ip_adapter.safetensors',
    'checkpoint-4/optimizer.safetensors',
    'validation/step-2.png',
    'validation/step-4.png',
  ];
  const lines = readFileSync(join(folder, 'metrics.jsonl'), 'utf8').trimEnd().split('\n');
  return {
    names: names.sort(),
    bytes: files
      .filter((file) => refused === undefined || !file.endsWith(refused))
      .map((file) =>
        existsSync(join(folder, file)) ? readFileSync(join(folder, file)).toString('base64') : 'missing',
      ),
    losses: lines
      .map((line) => JSON.parse(line))
      .filter(({ type }) => type === 'step')
      .map(({ step, loss, grad_norm }) => ({ step, loss, grad_norm })),
  };
}
