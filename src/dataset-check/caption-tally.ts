/** @file Counts the captions of a dataset and their tokens. */
import type { PromptTokenizer } from '../diffusion/model.js';
import { type CaptionsReport, spreadOf } from './report.js';

export class CaptionTally {
  readonly #tokenizer: PromptTokenizer | null;
  readonly #tokens: number[] = [];
  #count = 0;
  #empty = 0;

  constructor(tokenizer: PromptTokenizer | null) {
    this.#tokenizer = tokenizer;
  }

  add(caption: string): void {
    this.#count++;
    if (caption.trim() === '') this.#empty++;
    if (this.#tokenizer !== null) this.#tokens.push(this.#tokenizer.countTokens(caption));
  }

  report(): CaptionsReport {
    const spread = spreadOf(this.#tokens);
    const limit = this.#tokenizer?.maxLength;
    const tokens =
      spread === null || limit === undefined
        ? null
        : { ...spread, limit, truncated: this.#tokens.filter((count) => count > limit).length };
    return { count: this.#count, empty: this.#empty, tokens };
  }
}
