/** @file Asks `ip-adapter train --dry-run` what a new run takes: it loads everything, does two steps, and writes nothing. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '../base/errors.js';

const LIMIT_MS = 10 * 60_000;
const MAX_TEXT = 64 * 1024;

export interface DryRunResult {
  isPossible: boolean;
  /** The report, or what is wrong. */
  text: string;
}

export class DryRuns {
  readonly #command: readonly string[];
  #isRunning = false;

  /** @param command the words that start `ip-adapter` */
  constructor(command: readonly string[]) {
    this.#command = command;
  }

  /**
   * @param options of a new run
   * @param signal ends it early
   * @throws ConfigError where another one is going on, which would make both slow and their figures wrong
   */
  async try(options: Readonly<Record<string, unknown>>, signal: AbortSignal): Promise<DryRunResult> {
    if (this.#isRunning) throw new ConfigError('Another dry run is going on; try again after it');
    this.#isRunning = true;
    const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-dry-run-'));
    try {
      const config = join(folder, 'options.json');
      writeFileSync(config, JSON.stringify(options));
      const [program = '', ...words] = this.#command;
      const child = spawn(program, [...words, 'train', '--config', config, '--dry-run'], {
        stdio: ['ignore', 'pipe', 'pipe'],
        killSignal: 'SIGKILL',
        timeout: LIMIT_MS,
      });
      const kill = (): void => void child.kill('SIGKILL');
      signal.addEventListener('abort', kill);
      let [report, messages] = ['', ''];
      child.stdout.on('data', (piece) => {
        report = (report + piece).slice(-MAX_TEXT);
      });
      child.stderr.on('data', (piece) => {
        messages = (messages + piece).slice(-MAX_TEXT);
      });
      const code = await new Promise<number | null>((resolve) => {
        child.on('close', resolve);
        child.on('error', ({ message }) => {
          messages += message;
          resolve(null);
        });
      });
      signal.removeEventListener('abort', kill);
      return { isPossible: code === 0, text: (code === 0 ? report : messages).trim() };
    } finally {
      rmSync(folder, { recursive: true, force: true });
      this.#isRunning = false;
    }
  }
}
