/**
 * @file Trainings that the studio starts: each a process of its own, which goes on without it. The queue is a file, so that a
 * studio which was killed takes it up again. The options of each are frozen when it is added, in the run's folder.
 *
 *     <runs>/.studio/queue.json           what waits and what was started
 *     <run>/studio-options.json           the options
 *     <run>/train.log                     what the training has written
 */
import { spawn } from 'node:child_process';
import { chmodSync, closeSync, existsSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { writeFileAtomically } from '../base/atomic-file.js';
import { ConfigError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import { ownerTextOf, parseOwner, stateOf } from '../training/checkpoints/lock-owner.js';

const POLL_MS = 500;

const entrySchema = z.object({
  run: z.string(),
  status: z.enum(['queued', 'running', 'failed']),
  /** Whether it takes up the run's newest checkpoint. */
  resumes: z.boolean(),
  /** The process, as a lock names it. */
  owner: z.string().optional(),
});

type Entry = z.infer<typeof entrySchema>;

export interface QueueOptions {
  /** The folder of runs. */
  folder: string;
  /** The words that start `ip-adapter`. */
  command: readonly string[];
  /** How many trainings run at the same time. */
  jobs: number;
  /** Is told that a run has ended. */
  onEnd: (run: string, isFailed: boolean) => void;
}

export class TrainingQueue implements Disposable {
  readonly #options: QueueOptions;
  readonly #file: string;
  #entries: Entry[];
  readonly #timer: NodeJS.Timeout;
  /** Of children of this process. Those of an earlier studio have none. */
  readonly #exitCodes = new Map<string, number>();

  constructor(options: QueueOptions) {
    this.#options = options;
    const state = join(options.folder, '.studio');
    makeFolder(state);
    chmodSync(state, 0o700);
    this.#file = join(state, 'queue.json');
    this.#entries = existsSync(this.#file) ? readEntries(this.#file) : [];
    this.#timer = setInterval(() => this.#advance(), POLL_MS);
    this.#timer.unref();
  }

  statusOf(run: string): Entry['status'] | undefined {
    return this.#entries.find((entry) => entry.run === run)?.status;
  }

  /**
   * Adds a training. @param options of a new run; undefined to resume one
   * @throws ConfigError where the run is there already, or waits
   */
  add(run: string, options: Readonly<Record<string, unknown>> | undefined): void {
    const folder = join(this.#options.folder, run);
    const status = this.statusOf(run);
    if (status === 'queued' || status === 'running')
      throw new ConfigError(`${run} is ${status === 'queued' ? 'in the queue' : 'running'} already`);
    if (options !== undefined) {
      if (existsSync(folder)) throw new ConfigError(`A run named ${run} is there already; give another name`);
      makeFolder(folder);
      writeFileSync(join(folder, 'studio-options.json'), `${JSON.stringify(options, null, 2)}\n`);
    }
    this.#entries = this.#entries.filter((entry) => entry.run !== run);
    this.#entries.push({ run, status: 'queued', resumes: options === undefined });
    this.#advance();
    this.#write();
  }

  /** Takes a training that has not begun out of the queue. @returns whether it was there */
  remove(run: string): boolean {
    const rest = this.#entries.filter((entry) => entry.run !== run || entry.status !== 'queued');
    const isRemoved = rest.length < this.#entries.length;
    this.#entries = rest;
    if (isRemoved) this.#write();
    return isRemoved;
  }

  #advance(): void {
    const before = JSON.stringify(this.#entries);
    this.#entries = this.#entries.filter((entry) => {
      if (entry.status !== 'running' || isAlive(entry)) return true;
      const code = this.#exitCodes.get(entry.run);
      const isFailed = code !== undefined && code !== 0 && code !== STOPPED;
      if (isFailed) entry.status = 'failed';
      this.#options.onEnd(entry.run, isFailed);
      return isFailed;
    });
    let running = this.#entries.filter(({ status }) => status === 'running').length;
    for (const entry of this.#entries) {
      if (running >= this.#options.jobs) break;
      if (entry.status !== 'queued') continue;
      this.#start(entry);
      running++;
    }
    if (JSON.stringify(this.#entries) !== before) this.#write();
  }

  #start(entry: Entry): void {
    const folder = join(this.#options.folder, entry.run);
    const log = openSync(join(folder, 'train.log'), 'a');
    const config = join(
      folder,
      existsSync(join(folder, 'config.yaml')) ? 'config.yaml' : 'studio-options.json',
    );
    const [program = '', ...words] = this.#options.command;
    const resume = entry.resumes ? ['--resume', 'auto'] : [];
    const args = [...words, 'train', '--config', config, '--output-dir', folder, ...resume];
    const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log] });
    closeSync(log);
    this.#exitCodes.delete(entry.run);
    child.on('error', () => this.#exitCodes.set(entry.run, 1));
    child.on('exit', (code) => this.#exitCodes.set(entry.run, code ?? 1));
    child.unref();
    entry.status = 'running';
    if (child.pid !== undefined) entry.owner = ownerTextOf(child.pid);
  }

  #write(): void {
    const text = Buffer.from(`${JSON.stringify(this.#entries, null, 2)}\n`);
    writeFileAtomically(this.#file, (append) => append(text));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}

/** The exit code of a training that was asked to stop. */
const STOPPED = 143;

function isAlive({ owner: text }: Entry): boolean {
  const owner = text === undefined ? undefined : parseOwner(text);
  return owner !== undefined && stateOf(owner) === 'running';
}

/** @throws ConfigError that names the file where it was changed by hand */
function readEntries(file: string): Entry[] {
  try {
    return z.array(entrySchema).parse(JSON.parse(readFileSync(file, 'utf8')));
  } catch (cause) {
    throw new ConfigError(`${file} is not the queue of a studio; move it away to begin an empty one`, {
      cause,
    });
  }
}
