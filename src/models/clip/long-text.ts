/**
 * @file Encodes the beginning of a long text as the whole of it would be. Of a caption of a megabyte 77 tokens are kept, and
 * the rest would take seconds.
 */
import { isDeepStrictEqual } from 'node:util';
import type { Tokenizer } from '@huggingface/tokenizers';
import { BytePairs } from './byte-pairs.js';

type Json = Record<string, unknown>;

/** How CLIP's text is made alike before it is split. */
export const CLIP_NORMALIZER = {
  type: 'Sequence',
  normalizers: [
    { type: 'NFC' },
    { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
    { type: 'Lowercase' },
  ],
};

/** The pieces of text that are encoded on their own: English endings, words, single digits, runs of other signs. */
const CLIP_PATTERN = String.raw`'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`;
/** The same as JavaScript has it, whose own `\s` is not quite Unicode's white space. */
const CLIP_PIECES = new RegExp(CLIP_PATTERN.replace('\\s', '\\p{White_Space}'), 'gu');
export const CLIP_SPLIT = {
  type: 'Split',
  pattern: { Regex: CLIP_PATTERN },
  behavior: 'Removed',
  invert: true,
};

/** In UTF-16 units. Shorter texts are encoded at once. */
const PART = 1024;

/** So much of a piece mostly decides its first tokens, in UTF-16 units. */
const PIECE = 4096;

/** A `tokenizer.json`, as far as it decides here. */
interface Description {
  readonly added_tokens: readonly { content: string }[];
  readonly normalizer: unknown;
  readonly pre_tokenizer: { pretokenizers?: readonly Json[] } | null;
  readonly model: Json & { merges: readonly (string | [string, string])[] };
}

export class LongText {
  readonly #tokenizer: Tokenizer;
  readonly #description: Description;
  /** Whether the text on either side of white space is encoded as if it were alone. */
  readonly #isCutAtSpace: boolean;
  #pairs: BytePairs | undefined;

  /** @param description the content of the `tokenizer.json` that `tokenizer` was made of */
  constructor(tokenizer: Tokenizer, description: Json) {
    this.#tokenizer = tokenizer;
    this.#description = description as unknown as Description;
    const { normalizer, pre_tokenizer, added_tokens, model } = this.#description;
    const [split] = pre_tokenizer?.pretokenizers ?? [];
    this.#isCutAtSpace =
      isDeepStrictEqual(normalizer, CLIP_NORMALIZER) &&
      isDeepStrictEqual(split, CLIP_SPLIT) &&
      !model.fuse_unk &&
      added_tokens.every(({ content }) => /^\P{White_Space}+$/u.test(content));
  }

  /** Returns the ids of the first tokens of a text: `limit` or more of them unless it has fewer. */
  first(text: string, limit: number): number[] {
    if (!this.#isCutAtSpace || text.length <= PART) return this.#encode(text);
    const ids: number[] = [];
    const space = /\p{White_Space}/gu;
    for (let begin = 0; begin < text.length && ids.length < limit; ) {
      space.lastIndex = begin + PART;
      const end = space.exec(text)?.index ?? text.length;
      const part = text.slice(begin, end);
      const wanted = limit - ids.length;
      const isLong = part.length > 2 * PART && wanted < part.length;
      for (const id of (isLong ? this.#firstOfPart(part, wanted) : null) ?? this.#encode(part)) ids.push(id);
      begin = end;
    }
    return ids;
  }

  #encode(text: string): number[] {
    return this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
  }

  /** The same of a text with no white space to cut it at; null where it has special tokens, or a model is not CLIP's. */
  #firstOfPart(part: string, limit: number): number[] | null {
    const { added_tokens, model } = this.#description;
    const pairs = this.#bytePairs();
    const text = part.normalize('NFC').toLowerCase();
    const isSpecial = ({ content }: { content: string }): boolean =>
      part.includes(content) || text.includes(content.normalize('NFC').toLowerCase());
    if (pairs === null || added_tokens.some(isSpecial)) return null;
    const ids: number[] = [];
    for (const [piece] of text.matchAll(CLIP_PIECES)) {
      const wanted = limit - ids.length;
      const begin = pairs.first(lettersOf(beginOf(piece)), wanted, piece.length <= PIECE);
      const tokens = begin ?? pairs.first(lettersOf(piece), wanted, true);
      if (tokens === null) return null;
      for (const token of tokens) {
        const id = this.#tokenizer.token_to_id(token) ?? this.#tokenizer.token_to_id(String(model.unk_token));
        if (id === undefined) return null;
        ids.push(id);
      }
      if (ids.length >= limit) break;
    }
    return ids;
  }

  #bytePairs(): BytePairs | null {
    const { model, pre_tokenizer } = this.#description;
    const [, bytes, ...rest] = pre_tokenizer?.pretokenizers ?? [];
    const isPlain =
      bytes?.type === 'ByteLevel' &&
      !bytes.add_prefix_space &&
      rest.length === 0 &&
      model.type === 'BPE' &&
      typeof model.end_of_word_suffix === 'string' &&
      !model.continuing_subword_prefix &&
      !model.continuing_subword_suffix &&
      !model.byte_fallback &&
      !model.ignore_merges;
    if (!isPlain) return null;
    this.#pairs ??= new BytePairs({
      merges: model.merges.map((merge) =>
        typeof merge === 'string' ? (merge.split(' ', 2) as [string, string]) : merge,
      ),
      endOfWord: model.end_of_word_suffix as string,
    });
    return this.#pairs;
  }
}

/** Its first characters, none of them cut in two. */
function beginOf(piece: string): string {
  return piece.length <= PIECE ? piece : piece.slice(0, PIECE).replace(/[\ud800-\udbff]$/, '');
}

/** The letter that stands for each byte in vocabularies (openai/gpt-2 `encoder.py`, `bytes_to_unicode`). */
const BYTE_LETTERS = byteLetters();

function byteLetters(): string[] {
  const isShown = (byte: number): boolean =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
  let hidden = 0;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(isShown(byte) ? byte : 256 + hidden++));
}

function lettersOf(piece: string): string {
  return Array.from(Buffer.from(piece), (byte) => BYTE_LETTERS[byte]).join('');
}
