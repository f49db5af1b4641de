/** @file What the studio and its engine say to each other over the channel between their processes. */
import type { PipelineOptions, PromptOptions } from '../options/generate-types.js';

export type ToEngine =
  | {
      type: 'generate';
      models: PipelineOptions;
      prompt: PromptOptions;
      /** PNG files to write, one for each image. */
      files: string[];
    }
  | { type: 'cancel' };

/** `done` and `failed` are the last of a job. */
export type FromEngine =
  /** What is loaded before the first step: a job of other adapters keeps the models. */
  | { type: 'loading'; what: 'models' | 'adapters' }
  | { type: 'progress'; done: number; total: number }
  | { type: 'message'; text: string }
  | { type: 'preview'; png: Uint8Array }
  | { type: 'image'; file: string }
  | { type: 'done' }
  | { type: 'failed'; error: string; isCancelled: boolean };
