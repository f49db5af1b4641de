/** @file The tokenizers of SDXL's two text encoders, which share a vocabulary and differ in what they pad with. */
import type { ClipTokenizer, PromptTokenizer } from './clip-tokenizer.js';

export class ClipTokenizerPair implements PromptTokenizer {
  readonly #first: ClipTokenizer;
  readonly #second: ClipTokenizer;

  constructor(first: ClipTokenizer, second: ClipTokenizer) {
    this.#first = first;
    this.#second = second;
  }

  get maxLength(): number {
    return this.#first.maxLength;
  }

  /** [2, maxLength]: the ids of the first encoder, then those of the second. */
  get shape(): readonly number[] {
    return [2, this.maxLength];
  }

  encode(text: string): number[] {
    return [...this.#first.encode(text), ...this.#second.encode(text)];
  }

  countTokens(text: string): number {
    return this.#first.countTokens(text);
  }

  truncates(text: string): boolean {
    return this.#first.truncates(text);
  }

  fingerprint(): string {
    return `${this.#first.fingerprint()} ${this.#second.fingerprint()}`;
  }
}
