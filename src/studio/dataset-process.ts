/** @file Asks the process that reads datasets. It starts at the first question, and ends when nobody has asked for a while. */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { DatasetError } from '../base/errors.js';
import type {
  CheckedRows,
  DatasetPage,
  FromReader,
  ImageQuery,
  ReaderSettings,
  RowsQuery,
  ToReader,
} from './dataset-messages.js';

const program = fileURLToPath(new URL('../../dist/studio/dataset-reader.js', import.meta.url));
const IDLE_MS = 5 * 60_000;
/** Questions that wait for an answer. */
const MAX_WAITING = 200;

type Question = ToReader extends infer Q ? (Q extends { id: number } ? Omit<Q, 'id'> : never) : never;
type Answer = Exclude<FromReader, { note: string }>;

interface Waiting {
  /** The dataset. */
  path: string;
  resolve: (answer: Answer) => void;
  reject: (error: Error) => void;
  note?: string;
}

export class DatasetProcess implements Disposable {
  readonly #settings: ReaderSettings;
  #child: ChildProcess | undefined;
  readonly #waiting = new Map<number, Waiting>();
  #next = 0;
  #idle: NodeJS.Timeout | undefined;

  constructor(settings: ReaderSettings) {
    this.#settings = settings;
  }

  /** @param signal is aborted where nobody waits any more @throws DatasetError as `openDataset` */
  async rows(query: RowsQuery, among: CheckedRows | undefined, signal: AbortSignal): Promise<DatasetPage> {
    const question = { type: 'rows', query, among } as const;
    return ((await this.#ask(question, query.path, signal)) as { page: DatasetPage }).page;
  }

  /** Returns an image as WebP. @throws DatasetError where it cannot be read, or is not in the studio's folders */
  async image(query: ImageQuery, signal: AbortSignal): Promise<Uint8Array> {
    const answer = await this.#ask({ type: 'image', query }, query.path, signal);
    return (answer as { webp: Uint8Array }).webp;
  }

  /** What takes long of a dataset that is being opened, such as a download. */
  noteOf(path: string): string | undefined {
    return [...this.#waiting.values()].findLast((one) => one.path === path && one.note !== undefined)?.note;
  }

  async #ask(question: Question, path: string, signal: AbortSignal): Promise<Answer> {
    if (this.#waiting.size >= MAX_WAITING)
      throw new DatasetError('Too many images are being read; try again');
    this.#child ??= this.#start();
    const child = this.#child;
    clearTimeout(this.#idle);
    const id = this.#next++;
    const send = (message: ToReader): void =>
      void child.send(message, (error) => error && this.#end(child, error.message));
    const cancel = (): void => send({ id, type: 'cancel' });
    signal.addEventListener('abort', cancel);
    const answer = await new Promise<Answer>((resolve, reject) => {
      this.#waiting.set(id, { path, resolve, reject });
      send({ id, ...question } as ToReader);
    }).finally(() => signal.removeEventListener('abort', cancel));
    if (!('error' in answer)) return answer;
    throw answer.isFault ? new Error(answer.error) : new DatasetError(answer.error);
  }

  #start(): ChildProcess {
    const child = fork(program, [JSON.stringify(this.#settings)], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    child.on('message', (answer: FromReader) => {
      const waiting = this.#waiting.get(answer.id);
      if ('note' in answer) {
        if (waiting !== undefined) waiting.note = answer.note;
        return;
      }
      waiting?.resolve(answer);
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
