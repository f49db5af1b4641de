/** @file The playground's jobs: what waits, what is being generated, and what has become of the last ones. */
import { randomUUID } from 'node:crypto';
import { basename } from 'node:path';
import { ConfigError } from '../base/errors.js';
import type { PipelineOptions, PromptOptions } from '../options/generate-types.js';
import type { FromEngine } from './engine-messages.js';
import { EngineProcess } from './engine-process.js';
import type { Gallery } from './gallery.js';

const MAX_WAITING = 64;
/** Of jobs that have ended. */
const KEPT = 100;

export interface PlaygroundJob {
  id: string;
  status: 'waiting' | 'running' | 'done' | 'cancelled' | 'failed';
  /** What was loaded for it; absent where the last job's models and adapters were its own. */
  loaded?: 'models' | 'adapters';
  /** Denoising steps of all its batches. */
  done: number;
  total: number;
  /** Names of finished images, in the order of their seeds. */
  images: string[];
  messages: string[];
  error?: string;
}

interface Entry {
  job: PlaygroundJob;
  models: PipelineOptions;
  prompt: PromptOptions;
}

export class Playground implements Disposable {
  readonly #gallery: Gallery;
  readonly #engine = new EngineProcess();
  #entries: Entry[] = [];
  /** Of the job that is running, as PNG. */
  #preview: { job: string; png: Uint8Array } | undefined;

  constructor(gallery: Gallery) {
    this.#gallery = gallery;
  }

  /** The jobs, oldest first. */
  get jobs(): PlaygroundJob[] {
    return this.#entries.map(({ job }) => job);
  }

  /** Returns the newest preview of a job while it runs. */
  previewOf(id: string): Uint8Array | undefined {
    return this.#preview?.job === id ? this.#preview.png : undefined;
  }

  /** @returns the job's id @throws ConfigError where too many wait */
  add(models: PipelineOptions, prompt: PromptOptions): string {
    if (this.#entries.filter(({ job }) => job.status === 'waiting').length >= MAX_WAITING)
      throw new ConfigError(`${MAX_WAITING} jobs wait already; cancel some, or wait`);
    const id = randomUUID();
    const job: PlaygroundJob = { id, status: 'waiting', done: 0, total: 0, images: [], messages: [] };
    this.#entries.push({ job, models, prompt });
    this.#advance();
    return id;
  }

  /** @returns whether the job waited or ran */
  cancel(id: string): boolean {
    const job = this.jobs.find((one) => one.id === id);
    if (job?.status === 'waiting') job.status = 'cancelled';
    else if (job?.status === 'running') this.#engine.cancel();
    else return false;
    return true;
  }

  #advance(): void {
    if (this.#entries.some(({ job }) => job.status === 'running')) return;
    const ended = this.#entries.filter(({ job }) => job.status !== 'waiting');
    const forgotten = new Set(ended.slice(0, -KEPT));
    this.#entries = this.#entries.filter((entry) => !forgotten.has(entry));
    const next = this.#entries.find(({ job }) => job.status === 'waiting');
    if (next === undefined) return;
    next.job.status = 'running';
    const files = this.#gallery.newImages(next.prompt.numImages ?? 1);
    this.#engine.run({
      work: { type: 'generate', models: next.models, prompt: next.prompt, files },
      onMessage: (message) => this.#hear(next.job, message),
    });
  }

  #hear(job: PlaygroundJob, message: FromEngine): void {
    if (message.type === 'loading') job.loaded = message.what;
    else if (message.type === 'progress') Object.assign(job, { done: message.done, total: message.total });
    else if (message.type === 'message') job.messages.push(message.text);
    else if (message.type === 'preview') this.#preview = { job: job.id, png: message.png };
    else if (message.type === 'image') job.images.push(basename(message.file));
    else {
      this.#preview = undefined;
      if (message.type === 'done') job.status = 'done';
      else if (message.isCancelled) job.status = 'cancelled';
      else Object.assign(job, { status: 'failed', error: message.error });
      this.#advance();
    }
  }

  [Symbol.dispose](): void {
    this.#engine[Symbol.dispose]();
  }
}
