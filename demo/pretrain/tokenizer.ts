/**
 * @file Writes a CLIP tokenizer for the words of the captions: `vocab.json` and `merges.txt` in openai/CLIP's form, with merges
 * learnt from these words (Sennrich et al. 2016, algorithm 1). Other words are split into letters.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../../src/base/make-folder.js';

const BOS = '<|startoftext|>';
const EOS = '<|endoftext|>';
/** CLIP's suffix of a word's last symbol. */
const END = '</w>';

/** Writes the tokenizer's folder and returns the number of tokens; the last two are BOS and EOS. */
export function writeTokenizer(folder: string, words: readonly string[], maxLength: number): number {
  const merges = learnMerges(words);
  const bytes = byteSymbols();
  const joined = merges.map(([first, second]) => first + second);
  const tokens = [...bytes, ...bytes.map((symbol) => symbol + END), ...joined, BOS, EOS];
  const settings = {
    tokenizer_class: 'CLIPTokenizer',
    model_max_length: maxLength,
    bos_token: BOS,
    eos_token: EOS,
    pad_token: EOS,
    unk_token: EOS,
  };
  makeFolder(folder);
  const write = (file: string, content: string) => writeFileSync(join(folder, file), content);
  write('vocab.json', JSON.stringify(Object.fromEntries(tokens.map((token, id) => [token, id]))));
  write('merges.txt', ['#version: 0.2', ...merges.map((pair) => pair.join(' ')), ''].join('\n'));
  write('tokenizer_config.json', `${JSON.stringify(settings, null, 2)}\n`);
  return tokens.length;
}

/** Repeatedly joins the most frequent pair of neighbouring symbols until each word is one token. */
function learnMerges(words: readonly string[]): [string, string][] {
  let split = words.map((word) => [...word.slice(0, -1), word.at(-1) + END]);
  const merges: [string, string][] = [];
  for (;;) {
    const counts = new Map<string, number>();
    for (const symbols of split) {
      for (const [i, symbol] of symbols.slice(1).entries()) {
        const pair = `${symbols[i]} ${symbol}`;
        counts.set(pair, (counts.get(pair) ?? 0) + 1);
      }
    }
    const [best] = [...counts].sort(([a, m], [b, n]) => n - m || (a < b ? -1 : 1));
    if (!best) return merges;
    const [first, second] = best[0].split(' ') as [string, string];
    merges.push([first, second]);
    split = split.map((symbols) => joinPair(symbols, first, second));
  }
}

function joinPair(symbols: readonly string[], first: string, second: string): string[] {
  const joined: string[] = [];
  for (const symbol of symbols) {
    if (symbol === second && joined.at(-1) === first) joined[joined.length - 1] = first + second;
    else joined.push(symbol);
  }
  return joined;
}

/** Returns a visible character for each byte, in the order of `bytes_to_unicode` (openai/CLIP clip/simple_tokenizer.py). */
function byteSymbols(): string[] {
  const visible = [...range(0x21, 0x7e), ...range(0xa1, 0xac), ...range(0xae, 0xff)];
  const hidden = range(0, 0xff).filter((byte) => !visible.includes(byte));
  return [...visible, ...hidden.map((_, i) => 256 + i)].map((code) => String.fromCharCode(code));
}

function range(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, i) => first + i);
}
