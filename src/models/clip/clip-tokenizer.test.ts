import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { goldenFile, VOCABULARY } from '../../../test/data-support.js';
import { CheckpointError } from '../../base/errors.js';
import { ClipTokenizer } from './clip-tokenizer.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-tokenizer-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

const BOS = '<|startoftext|>';
const EOS = '<|endoftext|>';

/** A vocabulary of our own, as large as the tests need: letters, the end-of-word letters, and three merges. */
const TOKENS = ['!', ...'abct', '!</w>', 'a</w>', 'b</w>', 'c</w>', 't</w>', '1</w>', "'", 's</w>'];
const MERGES = ['a t</w>', 'c at</w>', "' s</w>"];
const vocab = Object.fromEntries(
  [...TOKENS, ...MERGES.map((merge) => merge.replace(' ', '')), BOS, EOS].map((token, id) => [token, id]),
);

function write(files: Record<string, unknown> = {}): void {
  const all = {
    'vocab.json': vocab,
    'merges.txt': `#version: 0.2\n${MERGES.join('\n')}\n`,
    'tokenizer_config.json': {
      model_max_length: 8,
      bos_token: { content: BOS },
      eos_token: EOS,
      pad_token: EOS,
    },
    ...files,
  };
  for (const [name, content] of Object.entries(all)) {
    if (content === undefined) continue;
    writeFileSync(join(dir, name), typeof content === 'string' ? content : JSON.stringify(content));
  }
}

/** Encodes and names the tokens. */
function tokens(text: string): string[] {
  const names = Object.entries(vocab).map(([token]) => token);
  return ClipTokenizer.load(dir)
    .encode(text)
    .map((id) => names[id]!);
}

describe('ClipTokenizer', () => {
  it('merges by priority, marks the ends of words, and pads', () => {
    write();
    expect(tokens('cat at b')).toEqual([BOS, 'cat</w>', 'at</w>', 'b</w>', EOS, EOS, EOS, EOS]);
    expect(tokens('')).toEqual([BOS, EOS, EOS, EOS, EOS, EOS, EOS, EOS]);
  });

  it('lowers case, collapses white space, and splits digits and English endings', () => {
    write();
    expect(tokens(" \t CAT's\n11 ")).toEqual([BOS, 'cat</w>', "'s</w>", '1</w>', '1</w>', EOS, EOS, EOS]);
  });

  it('keeps BOS and EOS when it truncates', () => {
    write();
    expect(tokens('a b c a b c a b c')).toEqual([
      BOS,
      'a</w>',
      'b</w>',
      'c</w>',
      'a</w>',
      'b</w>',
      'c</w>',
      EOS,
    ]);
  });

  it('counts the tokens that a text has before it is truncated or padded', () => {
    write();
    const tokenizer = ClipTokenizer.load(dir);
    expect(
      ['', 'cat', 'a b c a b c', 'a b c a b c a b c'].map((text) => tokenizer.countTokens(text)),
    ).toEqual([2, 3, 8, 11]);
  });

  it('says whether a text is truncated', () => {
    write();
    const tokenizer = ClipTokenizer.load(dir);
    const texts = ['', 'a b c a b c', 'a b c a b c a', 'a '.repeat(1e5), 'a'.repeat(5000)];
    expect(texts.map((text) => tokenizer.truncates(text))).toEqual([false, false, true, true, true]);
    expect(tokenizer.encode('a '.repeat(1e5))).toEqual(tokenizer.encode('a a a a a a'));
    expect(tokenizer.countTokens('a '.repeat(5000))).toBe(5002);
  });

  it.each(['constructor', '__proto__', 'toString'])('knows tokens by the vocabulary alone: %s', (name) => {
    write({ 'tokenizer_config.json': { model_max_length: 8, pad_token: name } });
    expect(() => ClipTokenizer.load(dir)).toThrow(CheckpointError);
    expect(() => ClipTokenizer.load(dir)).toThrow(`special token "${name}" in the vocabulary`);
    write({
      'tokenizer_config.json': { model_max_length: 4, pad_token: name },
      'vocab.json': JSON.stringify({ ...vocab, zzz: 40 }).replace('zzz', name),
    });
    expect(ClipTokenizer.load(dir).encode('a')).toEqual([vocab[BOS], vocab['a</w>'], vocab[EOS], 40]);
  });

  it('takes special tokens in the text for themselves', () => {
    write();
    expect(tokens(`a${EOS}b`)).toEqual([BOS, 'a</w>', EOS, 'b</w>', EOS, EOS, EOS, EOS]);
  });

  it('pads with the token of special_tokens_map.json before that of tokenizer_config.json', () => {
    write({ 'special_tokens_map.json': { pad_token: '!' } });
    expect(tokens('a')).toEqual([BOS, 'a</w>', EOS, '!', '!', '!', '!', '!']);
    // As in transformers, a padding token of its own is special in the text, too.
    expect(tokens('a!')).toEqual([BOS, 'a</w>', '!', EOS, '!', '!', '!', '!']);
  });

  it('does not read special_tokens_map.json where added_tokens_decoder replaces it', () => {
    const config = { model_max_length: 4, pad_token: EOS, added_tokens_decoder: {} };
    write({ 'tokenizer_config.json': config, 'special_tokens_map.json': { pad_token: '!' } });
    expect(tokens('a')).toEqual([BOS, 'a</w>', EOS, EOS]);
  });

  it('pads with another token on request, in both forms of files', () => {
    const padded = () => ClipTokenizer.load(dir, { pad: '!' }).encode('a!');
    write();
    const expected = [vocab[BOS], vocab['a</w>'], vocab['!'], vocab[EOS], ...Array(4).fill(vocab['!'])];
    expect(padded()).toEqual(expected);
    const whole = {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: { type: 'WhitespaceSplit' },
      post_processor: null,
      decoder: null,
      model: { type: 'BPE', unk_token: EOS, end_of_word_suffix: '</w>', vocab, merges: [] },
    };
    write({ 'tokenizer.json': whole });
    expect(padded()).toEqual(expected);
  });

  it('uses CLIP’s names and 77 positions where the folder holds no configuration', () => {
    write({ 'tokenizer_config.json': undefined });
    const result = tokens('a');
    expect(result).toHaveLength(77);
    expect(result.slice(0, 3)).toEqual([BOS, 'a</w>', EOS]);
  });

  it('prefers tokenizer.json', () => {
    const whole = {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: { type: 'WhitespaceSplit' },
      post_processor: null,
      decoder: null,
      model: { type: 'BPE', unk_token: EOS, end_of_word_suffix: '</w>', vocab, merges: [] },
    };
    write({ 'tokenizer.json': whole, 'vocab.json': undefined, 'merges.txt': undefined });
    expect(tokens('at')).toEqual([BOS, 'a', 't</w>', EOS, EOS, EOS, EOS, EOS]);
  });

  it.each([
    [{ 'vocab.json': undefined }, 'vocab.json'],
    [{ 'merges.txt': undefined }, 'merges.txt'],
    [{ 'vocab.json': '{"a": 1' }, 'vocab.json'],
    [{ 'vocab.json': '[]' }, 'vocab.json'],
    [{ 'vocab.json': { ...vocab, a: 'one' } }, 'vocab.json'],
    [{ 'vocab.json': { a: 0 } }, 'vocab.json'],
    [{ 'merges.txt': '#version: 0.2\na t</w>\nc\n' }, 'line 3 of .*merges.txt'],
    [{ 'tokenizer_config.json': { model_max_length: 0 } }, 'model_max_length in .*tokenizer_config.json'],
    [{ 'tokenizer_config.json': { model_max_length: 2 ** 53 - 1 } }, 'from 2 to 4096 for model_max_length'],
    [{ 'tokenizer_config.json': { pad_token: 7 } }, 'pad_token in .*tokenizer_config.json'],
    [{ 'tokenizer.json': { model: {} } }, 'tokenizer.json'],
  ])('refuses broken files: %j', (files, where) => {
    write(files);
    const load = () => ClipTokenizer.load(dir);
    expect(load).toThrow(CheckpointError);
    expect(load).toThrow(new RegExp(where));
  });

  it.each([
    ['a tokenizer.json', { extra: 0 }],
    ['a normalizer', { normalizer: { type: 'NFC', extra: 0 } }],
  ])('refuses %s nested deeper than the stack', (_, part) => {
    const parts = {
      added_tokens: [],
      normalizer: null,
      pre_tokenizer: null,
      post_processor: null,
      decoder: null,
    };
    const whole = JSON.stringify({ ...parts, model: { type: 'BPE', vocab, merges: [] }, ...part });
    write({
      'tokenizer.json': whole.replace('"extra":0', `"extra":${'['.repeat(50_000)}${']'.repeat(50_000)}`),
    });
    expect(() => ClipTokenizer.load(dir)).toThrow(CheckpointError);
    expect(() => ClipTokenizer.load(dir)).toThrow('nested too deeply');
  });
});

describe.skipIf(VOCABULARY === null)(
  'ClipTokenizer with the published vocabulary (../shared/clip_tokenizer)',
  () => {
    const cases = JSON.parse(readFileSync(goldenFile('tokenizer/cases.json'), 'utf8')) as {
      text: string;
      ids: number[];
    }[];

    it('gives the golden ids', () => {
      const tokenizer = ClipTokenizer.load(VOCABULARY!);
      expect(cases.length).toBe(65);
      for (const { text, ids } of cases) expect(tokenizer.encode(text), JSON.stringify(text)).toEqual(ids);
    });

    it("pads with id 0 as Stable Diffusion 2's tokenizer does", () => {
      for (const name of ['vocab.json', 'merges.txt']) cpSync(join(VOCABULARY!, name), join(dir, name));
      writeFileSync(join(dir, 'special_tokens_map.json'), JSON.stringify({ pad_token: '!' }));
      expect(ClipTokenizer.load(dir).encode('a').slice(0, 5)).toEqual([49406, 320, 49407, 0, 0]);
    });
  },
);
