/**
 * @file Follows the `metrics.jsonl` of a run: reads what is new, and keeps its curves in bounded memory. Only positions in the file
 * are kept of it, never the file.
 */
import type { StepEvent } from '../base/run-context.js';
import { openRunFile } from './folders.js';
import { type MetricsLine, scalarsOf } from './scalars.js';
import { Series } from './series.js';

const PIECE_BYTES = 256 * 1024;
/** A line of this package has a few kilobytes; a longer one is skipped. */
const MAX_LINE = 2 ** 20;
/** Curves of one run, and measurements that are kept of it. */
const MAX_NAMES = 200;
const MAX_EVENTS = 2000;

/** Whole lines of a file from a position on. */
export interface Lines {
  text: string;
  /** The position after them. */
  position: number;
  /** Which file it was: a resumed run replaces it. */
  inode: number;
  /** Whether the file is another one, or shorter, than at the position that was asked for. */
  isReplaced: boolean;
}

/**
 * Reads whole lines, at most 256 KiB of them.
 * @param inode of the file that the position belongs to; undefined for whichever is there
 * @returns undefined where there is no file
 */
export async function readLines(file: string, position: number, inode?: number): Promise<Lines | undefined> {
  const handle = await openRunFile(file);
  if (handle === undefined) return undefined;
  try {
    const status = await handle.stat();
    const isReplaced = (inode !== undefined && inode !== status.ino) || position > status.size;
    const start = isReplaced ? 0 : position;
    const buffer = Buffer.allocUnsafe(Math.min(PIECE_BYTES, Math.max(0, status.size - start)));
    const { bytesRead } = await handle.read(buffer, 0, buffer.length, start);
    const end = buffer.subarray(0, bytesRead).lastIndexOf(10) + 1;
    // A line that fills a whole piece was not written by this package.
    const used = end === 0 && bytesRead === PIECE_BYTES ? bytesRead : end;
    return {
      text: end === 0 ? '' : buffer.toString('utf8', 0, end),
      position: start + used,
      inode: status.ino,
      isReplaced,
    };
  } finally {
    await handle.close();
  }
}

/** Returns the events of lines; what is not an event is left out. */
function parseLines(text: string): MetricsLine[] {
  return text.split('\n').flatMap((line) => {
    if (line === '' || line.length > MAX_LINE) return [];
    try {
      const event = JSON.parse(line);
      return typeof event === 'object' && event !== null && Number.isFinite(event.step) ? [event] : [];
    } catch {
      return [];
    }
  });
}

export class RunMetrics {
  readonly #file: string;
  #position = 0;
  #inode: number | undefined;
  #reading: Promise<void> | undefined;
  readonly series = new Map<string, Series>();
  /** Everything but steps and sheets, the latest ones. */
  events: MetricsLine[] = [];
  /** Sheets of validation images by step, the latest ones. */
  readonly sheets = new Map<number, MetricsLine>();
  /** The last step, with the speed of the last group. */
  last: StepEvent | undefined;
  stepSeconds: number | undefined;

  constructor(file: string) {
    this.#file = file;
  }

  get position(): number {
    return this.#position;
  }

  get inode(): number | undefined {
    return this.#inode;
  }

  /** Reads what is new; several callers share one reading. */
  update(): Promise<void> {
    this.#reading ??= this.#read().finally(() => {
      this.#reading = undefined;
    });
    return this.#reading;
  }

  async #read(): Promise<void> {
    for (;;) {
      const lines = await readLines(this.#file, this.#position, this.#inode);
      if (lines === undefined || lines.isReplaced) this.#clear();
      if (lines === undefined) return;
      for (const event of parseLines(lines.text)) this.#add(event);
      const isAtEnd = lines.position === this.#position && !lines.isReplaced;
      this.#position = lines.position;
      this.#inode = lines.inode;
      if (isAtEnd) return;
    }
  }

  #clear(): void {
    this.series.clear();
    this.events = [];
    this.sheets.clear();
    this.last = undefined;
    this.stepSeconds = undefined;
    this.#position = 0;
    this.#inode = undefined;
  }

  #add(event: MetricsLine): void {
    if (event.type === 'step') {
      const step = event as StepEvent;
      this.last = step;
      const seconds = step['speed/step_seconds'];
      if (seconds !== undefined) this.stepSeconds = seconds + (step['speed/data_seconds'] ?? 0);
    } else if (event.type === 'sheet') {
      this.sheets.set(event.step, event);
      if (this.sheets.size > MAX_EVENTS) this.sheets.delete(this.sheets.keys().next().value as number);
    } else {
      this.events.push(event);
      if (this.events.length > MAX_EVENTS) this.events.shift();
    }
    for (const [name, value] of scalarsOf(event)) this.#seriesOf(name)?.add(event.step, value);
  }

  #seriesOf(name: string): Series | undefined {
    const known = this.series.get(name);
    if (known !== undefined || this.series.size >= MAX_NAMES) return known;
    const created = new Series();
    this.series.set(name, created);
    return created;
  }
}
