/** @file How far a download is, as messages: few, and none for each of many small files. */
import { Throttle } from '../base/throttle.js';
import type { HubFile } from './repository.js';

export class DownloadProgress {
  readonly #tell: (message: string) => void;
  readonly #repo: string;
  readonly #start = performance.now();
  readonly #throttle = new Throttle();
  /** Bytes since the start, and of them since the last message. */
  #loaded = 0;
  #sinceTold = 0;

  /** @param bytes of all files, of which some may be here from an earlier start */
  constructor(
    repo: string,
    files: number,
    bytes: number,
    onMessage: ((message: string) => void) | undefined,
  ) {
    this.#repo = repo;
    this.#tell = (message) => onMessage?.(message);
    this.#tell(`Downloading ${repo}: ${files} ${files === 1 ? 'file' : 'files'}, ${size(bytes)}`);
  }

  /** @param there bytes of the file that are here @param isNew bytes that have come since the last call */
  update(file: HubFile, there: number, isNew: number): void {
    this.#loaded += isNew;
    this.#sinceTold += isNew;
    if (!this.#throttle.isOver) return;
    const rate = this.#sinceTold / 1e3 / this.#throttle.restart();
    this.#tell(
      `Downloading ${this.#repo}: ${file.path}, ${gigabytes(there)} of ${size(file.size)}, ${rate.toFixed(1)} MB/s`,
    );
    this.#sinceTold = 0;
  }

  finish(): void {
    const seconds = (performance.now() - this.#start) / 1000;
    this.#tell(`Downloaded ${this.#repo}: ${size(this.#loaded)} in ${seconds.toFixed(1)} s`);
  }
}

function gigabytes(bytes: number): string {
  return (bytes / 1e9).toFixed(2);
}

/** 3438167534 → '3.44 GB'; small ones in MB */
function size(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${gigabytes(bytes)} GB`;
}
