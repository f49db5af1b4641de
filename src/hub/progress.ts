/** @file Reports the progress of a download in messages at intervals. */
import type { HubFile } from './repository.js';

/** The shortest interval between messages. */
const INTERVAL_MS = 5000;

export class DownloadProgress {
  readonly #report: (message: string) => void;
  readonly #repo: string;
  readonly #start = performance.now();
  #reportedAt = this.#start;
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
  update(file: HubFile, bytes: number, received: number): void {
    this.#received += received;
    this.#sinceReport += received;
    const now = performance.now();
    if (now - this.#reportedAt < INTERVAL_MS) return;
    const rate = this.#sinceReport / 1e3 / (now - this.#reportedAt);
    this.#report(
      `Downloading ${this.#repo}: ${file.path}, ${gigabytes(bytes)} of ${size(file.size)}, ${rate.toFixed(1)} MB/s`,
    );
    this.#reportedAt = now;
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
