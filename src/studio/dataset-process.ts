/** @file Asks the process that reads datasets. It starts at the first question, and ends when nobody has asked for a while. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { DatasetError } from '../base/errors.js';
import type { DatasetPage, FromReader, ImageQuery, RowsQuery, ToReader } from './dataset-messages.js';

const program = fileURLToPath(new URL('../../dist/studio/dataset-reader.js', import.meta.url));
const IDLE_MS = 5 * 60_000;
/** Questions that wait for an answer. */
const MAX_WAITING = 200;

type Question = ToReader extends infer Q ? (Q extends { id: number } ? Omit<Q, 'id'> : never) : never;

interface Waiting {
  resolve: (answer: FromReader) => void;
  reject: (error: Error) => void;
}

export class DatasetProcess implements Disposable {
  #child: ChildProcess | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #idle: NodeJS.Timeout | undefined;

  /** @throws DatasetError as `openDataset` */
  async rows(query: RowsQuery): Promise<DatasetPage> {
    return ((await this.#ask({ type: 'rows', query })) as { page: DatasetPage }).page;
  }

  /** Returns an image as WebP. @throws DatasetError where it cannot be read, or is not in `roots` */
  async image(query: ImageQuery, roots: readonly string[]): Promise<Uint8Array> {
    return ((await this.#ask({ type: 'image', query, roots })) as { webp: Uint8Array }).webp;
  }

  async #ask(question: Question): Promise<FromReader> {
    if (this.#waiting.size >= MAX_WAITING)
      throw new DatasetError('Too many images are being read; try again');
    this.#child ??= this.#start();
    const child = this.#child;
    clearTimeout(this.#idle);
    const id = this.#next++;
    const answer = await new Promise<FromReader>((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      child.send({ id, ...question } as ToReader, (error) => error && this.#end(child, error.message));
    });
    if (!('error' in answer)) return answer;
    throw answer.isFault ? new Error(answer.error) : new DatasetError(answer.error);
  }

  #start(): ChildProcess {
    const child = fork(program, [], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', (answer: FromReader) => {
      this.#waiting.get(answer.id)?.resolve(answer);
      this.#waiting.delete(answer.id);
      if (this.#waiting.size > 0) return;
      this.#idle = setTimeout(() => this[Symbol.dispose](), IDLE_MS);
      this.#idle.unref();
    });
    child.on('error', ({ message }) => this.#end(child, message));
    child.on('exit', () => this.#end(child, 'its process has ended'));
    child.unref();
    child.channel?.unref();
    return child;
  }

  #end(child: ChildProcess, why: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    for (const { reject } of this.#waiting.values())
      reject(new DatasetError(`The dataset was not read: ${why}`));
    this.#waiting.clear();
    child.kill('SIGKILL');
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#idle);
    if (this.#child !== undefined) this.#end(this.#child, 'the studio ends');
  }
}
