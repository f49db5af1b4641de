/** @file Gives the adapter of a checkpoint in a form other than the checkpoint's own, as `ip-adapter export` writes it. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConfigError } from '../base/errors.js';
import type { AdapterForm } from '../options/adapter-forms.js';

const LIMIT_MS = 10 * 60_000;
const MAX_ERROR = 4096;
/** Each takes the adapter's size in memory and on disk. */
const MAX_AT_ONCE = 2;

export class AdapterExports {
  readonly #command: readonly string[];
  #going = 0;

  /** @param command the words that start `ip-adapter` */
  constructor(command: readonly string[]) {
    this.#command = command;
  }

  /**
   * Writes an adapter in another form. @returns the file, which is gone when it is closed
   * @param signal ends it early
   * @throws ConfigError where others are being written, or this one cannot be
   */
  async export(file: string, form: AdapterForm, signal: AbortSignal): Promise<FileHandle> {
    if (this.#going >= MAX_AT_ONCE)
      throw new ConfigError(`${MAX_AT_ONCE} adapters are being exported already; try again after one`);
    this.#going++;
    const folder = mkdtempSync(join(tmpdir(), 'ip-adapter-export-'));
    try {
      const target = join(folder, `adapter.${form}`);
      await this.#run(file, target, signal);
      return await open(target);
    } finally {
      // The system keeps what is open.
      rmSync(folder, { recursive: true, force: true });
      this.#going--;
    }
  }

  async #run(file: string, target: string, signal: AbortSignal): Promise<void> {
    const [program = '', ...words] = this.#command;
    const child = spawn(program, [...words, 'export', file, target], {
      stdio: ['ignore', 'ignore', 'pipe'],
      killSignal: 'SIGKILL',
      timeout: LIMIT_MS,
      signal,
    });
    let messages = '';
    child.stderr.on('data', (piece) => {
      messages = (messages + piece).slice(-MAX_ERROR);
    });
    const code = await new Promise<number | null>((resolve) => {
      child.on('close', resolve);
      child.on('error', ({ message }) => {
        messages += message;
        resolve(null);
      });
    });
    if (code !== 0) throw new ConfigError(`The adapter could not be exported: ${messages.trim()}`);
  }
}
