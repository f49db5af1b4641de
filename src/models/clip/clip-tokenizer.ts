/**
 * @file CLIP's text tokenizer: a caption becomes `maxLength` (77) token ids, BOS … EOS and padding.
 *
 * Byte-pair encoding is done by `@huggingface/tokenizers`. Stable Diffusion's repositories hold only the files of
 * the older Python class (vocab.json, merges.txt), so the library's description is put together here as
 * transformers does it (source: `convert_slow_tokenizer.py`, `CLIPConverter`; the result is the "fast" tokenizer,
 * which keeps a run of CJK or of invisible characters together where the older class takes it apart).
 */
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { CheckpointError, shown } from '../../base/errors.js';
import { regularFile } from '../../base/regular-file.js';
import { CLIP_NORMALIZER, CLIP_SPLIT, LongText } from './long-text.js';

/** Text positions of every CLIP text model; used where the folder does not say. */
const CLIP_MAX_LENGTH = 77;
/** Every sequence is padded to its full length. */
const MAX_LENGTH = 4096;

type Json = Record<string, unknown>;

/** Names of the special tokens, and the length of a sequence. */
interface Settings {
  readonly bos: string;
  readonly eos: string;
  readonly pad: string;
  readonly maxLength: number;
}

/** Turns prompts into the ids that a model's text encoders take. */
export interface PromptTokenizer {
  /** Tokens of a prompt that are kept, BOS and EOS included. */
  readonly maxLength: number;
  /** The shape of a prompt's ids. */
  readonly shape: readonly number[];
  encode(text: string): number[];
  /** Counts all tokens of a prompt, BOS and EOS included, also those beyond maxLength. */
  countTokens(text: string): number;
  /** Whether `encode` drops the end of a prompt; unlike a count, it takes milliseconds for a text of any length. */
  truncates(text: string): boolean;
  /** What tells it from tokenizers that give other ids. */
  fingerprint(): string;
}

export class ClipTokenizer implements PromptTokenizer {
  readonly #text: LongText;
  /** All that the ids depend on, as JSON. */
  readonly #origin: string;
  readonly #bosId: number;
  readonly #eosId: number;
  readonly #padId: number;
  /** Length of every result, BOS and EOS included. */
  readonly maxLength: number;

  private constructor(description: Json, settings: Settings, where: string) {
    const tokenizer = build(description, where);
    const id = (token: string) => {
      const found = tokenizer.token_to_id(token);
      if (found === undefined) {
        throw new CheckpointError(
          `Expected the special token "${token}" in the vocabulary of ${where}, but it is missing.`,
        );
      }
      return found;
    };
    this.#text = new LongText(tokenizer, description);
    this.#origin = jsonOf([description, settings], where);
    this.#bosId = id(settings.bos);
    this.#eosId = id(settings.eos);
    this.#padId = id(settings.pad);
    this.maxLength = settings.maxLength;
  }

  /**
   * The tokenizer of a folder with `tokenizer.json`, or else `vocab.json` and `merges.txt`;
   * `tokenizer_config.json` and `special_tokens_map.json` are read where they are present.
   * @param pad the padding token, instead of the folder's
   * @throws CheckpointError naming the file, when one is missing or broken
   */
  static load(dir: string, { pad }: { pad?: string } = {}): ClipTokenizer {
    const settings = { ...readSettings(dir), ...(pad !== undefined && { pad }) };
    const whole = join(dir, 'tokenizer.json');
    if (existsSync(whole)) {
      const description = readJson(whole);
      return new ClipTokenizer(
        pad === undefined ? description : withSpecial(description, pad),
        settings,
        whole,
      );
    }
    const vocabulary = join(dir, 'vocab.json');
    return new ClipTokenizer(describe(dir, settings), settings, vocabulary);
  }

  get shape(): readonly number[] {
    return [this.maxLength];
  }

  /** SHA-256 of what it was made of: tokenizers with the same give the same ids. */
  fingerprint(): string {
    return createHash('sha256').update(this.#origin).digest('hex');
  }

  /** Tokens of `text` with BOS and EOS, before it is padded or loses its end: above `maxLength`, it will. */
  countTokens(text: string): number {
    return this.#text.first(text, Number.POSITIVE_INFINITY).length + 2;
  }

  /** Returns whether `encode` drops the end of `text`, without counting all of its tokens. */
  truncates(text: string): boolean {
    return this.#text.first(text, this.maxLength - 1).length > this.maxLength - 2;
  }

  /** Token ids of `text`: `maxLength` integers. A text that is too long loses its end, never the EOS. */
  encode(text: string): number[] {
    const room = this.maxLength - 2;
    const ids = this.#text.first(text, room);
    const sequence = [this.#bosId, ...ids.slice(0, room), this.#eosId];
    while (sequence.length < this.maxLength) sequence.push(this.#padId);
    return sequence;
  }
}

/** Makes a token of the vocabulary special, as transformers does with a padding token: in a caption it stands for itself. */
function withSpecial(description: Json, content: string): Json {
  const added = Array.isArray(description.added_tokens) ? (description.added_tokens as Json[]) : [];
  const vocab = (description.model as Json | undefined)?.vocab as Json | undefined;
  if (added.some((token) => token.content === content) || vocab?.[content] === undefined) return description;
  const token = { id: vocab[content], content, special: true, normalized: true };
  return { ...description, added_tokens: [...added, token] };
}

function jsonOf(origin: [description: Json, settings: Settings], file: string): string {
  try {
    return JSON.stringify(origin);
  } catch (cause) {
    throw new CheckpointError(`Expected a tokenizer in ${file} but it is nested too deeply.`, { cause });
  }
}

function build(description: Json, file: string): Tokenizer {
  try {
    const tokenizer = new Tokenizer(description, {});
    // The library looks at most settings only when there is a text.
    tokenizer.encode('A dog, 2 cats', { add_special_tokens: false });
    return tokenizer;
  } catch (error) {
    throw new CheckpointError(`Expected a tokenizer in ${file} but ${(error as Error).message}.`, {
      cause: error,
    });
  }
}

/** The content of a `tokenizer.json` for `vocab.json` and `merges.txt` in `dir`. */
function describe(dir: string, { bos, eos, pad }: Settings): Json {
  const vocab = readVocabulary(join(dir, 'vocab.json'));
  const merges = readMerges(join(dir, 'merges.txt'));
  // A special token in a caption stands for itself, also a padding token of its own (SD 2.x: "!").
  const added = [...new Set([bos, eos, pad])]
    .filter((token) => Object.hasOwn(vocab, token))
    .map((content) => ({ id: vocab[content], content, special: true, normalized: true }));
  return {
    added_tokens: added,
    normalizer: CLIP_NORMALIZER,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        CLIP_SPLIT,
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    // BOS and EOS are added by `encode`, after truncation.
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: { type: 'BPE', unk_token: eos, end_of_word_suffix: '</w>', fuse_unk: false, vocab, merges },
  };
}

function readSettings(dir: string): Settings {
  const configFile = join(dir, 'tokenizer_config.json');
  const mapFile = join(dir, 'special_tokens_map.json');
  const config = existsSync(configFile) ? readJson(configFile) : {};
  // As in transformers: the map comes second and wins, unless the newer `added_tokens_decoder` makes it redundant.
  const useMap = existsSync(mapFile) && config.added_tokens_decoder === undefined;
  const special = useMap ? { ...config, ...readJson(mapFile) } : config;

  const token = (key: string, fallback: string): string => {
    const value = special[key] ?? fallback;
    const content = typeof value === 'object' ? (value as Json).content : value;
    if (typeof content === 'string') return content;
    throw new CheckpointError(
      `Expected a token for ${key} in ${useMap ? mapFile : configFile} but received ${shown(value)}.`,
    );
  };
  const maxLength = config.model_max_length ?? CLIP_MAX_LENGTH;
  if (!Number.isInteger(maxLength) || (maxLength as number) < 2 || (maxLength as number) > MAX_LENGTH) {
    throw new CheckpointError(
      `Expected a whole number from 2 to ${MAX_LENGTH} for model_max_length in ${configFile} but received ${shown(maxLength)}.`,
    );
  }
  return {
    bos: token('bos_token', '<|startoftext|>'),
    eos: token('eos_token', '<|endoftext|>'),
    pad: token('pad_token', '<|endoftext|>'),
    maxLength: maxLength as number,
  };
}

function readText(file: string): string {
  try {
    return readFileSync(regularFile(file), 'utf8');
  } catch (error) {
    throw new CheckpointError(
      `Expected a tokenizer file ${file} but it cannot be read: ${(error as Error).message}.`,
      {
        cause: error,
      },
    );
  }
}

function readJson(file: string): Json {
  const text = readText(file);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new CheckpointError(`Expected JSON in ${file} but ${(error as Error).message}.`, { cause: error });
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json;
  throw new CheckpointError(`Expected a JSON object in ${file} but received ${text.slice(0, 40)}.`);
}

/** `vocab.json`: token → id. */
function readVocabulary(file: string): Json {
  const vocab = readJson(file);
  for (const [token, id] of Object.entries(vocab)) {
    if (Number.isSafeInteger(id) && (id as number) >= 0) continue;
    throw new CheckpointError(
      `Expected a whole number for token ${shown(token)} in ${file} but received ${shown(id)}.`,
    );
  }
  return vocab;
}

/** `merges.txt`: a version line, then two symbols a line in the order of their priority. */
function readMerges(file: string): [string, string][] {
  const lines = readText(file).trimEnd().split(/\r?\n/);
  const begin = lines[0]!.startsWith('#version') ? 1 : 0;
  return lines.slice(begin).map((line, index) => {
    const [first, second, ...rest] = line.split(' ');
    if (first && second && rest.length === 0) return [first, second];
    throw new CheckpointError(
      `Expected two symbols in line ${begin + index + 1} of ${file} but received ${shown(line)}.`,
    );
  });
}
