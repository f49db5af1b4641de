/** @file Reports the progress of a download in messages at intervals. */
import { Throttle } from '../base/throttle.js';
import type { HubFile } from './repository.js';

export class DownloadProgress {
  readonly #report: (message: string) => void;
  readonly #repo: string;
  readonly #start = performance.now();
  readonly #throttle = new Throttle();
  /** Bytes received since the start, and since the last message. */
  #received = 0;
  #sinceReport = 0;

  /** @param bytes the size of all files, including what earlier runs downloaded */
  constructor(
    repo: string,
    files: number,
    bytes: number,
    onMessage: ((message: string) => void) | undefined,
  ) {
    this.#repo = repo;
    this.#report = (message) => onMessage?.(message);
    this.#report(`Downloading ${repo}: ${files} ${files === 1 ? 'file' : 'files'}, ${size(bytes)}`);
  }

  /** @param bytes of the file so far @param received bytes since the last call */
  update(file: Pick<HubFile, 'path' | 'size'>, bytes: number, received: number): void {
    this.#received += received;
    this.#sinceReport += received;
    if (!this.#throttle.isOver) return;
    const rate = this.#sinceReport / 1e3 / this.#throttle.restart();
    this.#report(
      `Downloading ${this.#repo}: ${file.path}, ${gigabytes(bytes)} of ${size(file.size)}, ${rate.toFixed(1)} MB/s`,
    );
    this.#sinceReport = 0;
  }

  finish(): void {
    const seconds = (performance.now() - this.#start) / 1000;
    this.#report(`Downloaded ${this.#repo}: ${size(this.#received)} in ${seconds.toFixed(1)} s`);
  }
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(2);
}

/** Formats bytes in GB, or in MB below 0.1 GB: 3438167534 → '3.44 GB' */
function size(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${gigabytes(bytes)} GB`;
}
