import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { describe, expect, it } from 'vitest';
import { pick, type Random, seededRandom } from '../../../demo/world/random.js';
import { VOCABULARY } from '../../../test/data-support.js';
import { BytePairs } from './byte-pairs.js';
import { ClipTokenizer } from './clip-tokenizer.js';
import { CLIP_NORMALIZER, CLIP_SPLIT, LongText } from './long-text.js';

type Merge = [string, string];
const below = (bound: number, random: Random): number => Math.floor(random() * bound);

/** A tokenizer of `@huggingface/tokenizers`, and what it is made of. */
function libraryTokenizer(vocab: Record<string, number>, merges: Merge[], special: string[]) {
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };
  const description = {
    added_tokens: special.map((content) => ({
      id: vocab[content],
      content,
      special: true,
      normalized: true,
    })),
    normalizer: CLIP_NORMALIZER,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [CLIP_SPLIT, bytes] },
    post_processor: null,
    decoder: null,
    model: { type: 'BPE', unk_token: '<|endoftext|>', end_of_word_suffix: '</w>', vocab, merges },
  };
  const tokenizer = new Tokenizer(description, {});
  const full = (text: string): number[] => tokenizer.encode(text, { add_special_tokens: false }).ids;
  return { full, long: new LongText(tokenizer, description) };
}

describe('BytePairs', () => {
  it('begins a word as the whole of it is encoded, by any merges, or does not say', () => {
    const random = seededRandom(5);
    let [said, all] = [0, 0];
    for (let round = 0; round < 250; round++) {
      const tokens = ['a', 'b', 'c', 'a</w>', 'b</w>', 'c</w>'];
      const merges: Merge[] = [];
      for (let i = 1 + below(14, random); i > 0; i--) {
        const [left, right] = [pick(tokens, random), pick(tokens, random)];
        if (left.endsWith('>') || (random() < 0.95 && tokens.includes(left + right))) continue;
        tokens.push(left + right);
        merges.push([left, right]);
      }
      const vocab = Object.fromEntries([...new Set(tokens), '<|endoftext|>'].map((token, id) => [token, id]));
      const { full } = libraryTokenizer(vocab, merges, []);
      const pairs = new BytePairs({ merges, endOfWord: '</w>' });
      for (let i = 0; i < 10; i++) {
        const word = Array.from({ length: 1 + below(60, random) }, () => pick(['a', 'b', 'c'], random)).join(
          '',
        );
        const limit = 1 + below(12, random);
        const expected = full(word).slice(0, limit);
        const first = pairs.first(word, limit, true);
        all++;
        if (first === null) continue;
        said++;
        expect(
          first.slice(0, limit).map((token) => vocab[token]),
          word,
        ).toEqual(expected);
        // A prefix says the same, or nothing.
        const prefix = pairs.first(word.slice(0, below(word.length, random)), limit, false);
        if (prefix !== null) expect(prefix.slice(0, limit)).toEqual(first.slice(0, limit));
      }
    }
    expect(said / all).toBeGreaterThan(0.9);
  });
});

describe.skipIf(VOCABULARY === null)(
  'LongText with the published vocabulary (../shared/clip_tokenizer)',
  () => {
    // The body of a skipped group runs, too.
    const published = () => {
      const read = (name: string): string => readFileSync(join(VOCABULARY!, name), 'utf8');
      const merges = read('merges.txt')
        .trimEnd()
        .split('\n')
        .slice(1)
        .map((line) => line.split(' ') as Merge);
      return libraryTokenizer(JSON.parse(read('vocab.json')), merges, ['<|startoftext|>', '<|endoftext|>']);
    };

    it('has the first tokens of the whole text, where it is cut at spaces, in words, at special tokens', () => {
      const { full, long } = published();
      const random = seededRandom(11);
      const parts = [
        ...[
          'a',
          'photo',
          'of the',
          'Straße',
          'ΟΔΟΣ',
          'Σ',
          '漢字',
          '😀',
          '👩‍👩‍👧',
          'e\u0301',
          '\u0301',
          '!?',
          '-',
          "dog's",
          '7',
        ],
        ...[
          ' ',
          '\n',
          '\u00a0',
          '\ufeff',
          '  ',
          '<|endoftext|>',
          '<|StartOfText|>',
          '<|',
          '\ud83d',
          'İ',
          'ﬁ',
          '\0',
        ],
      ];
      for (let round = 0; round < 45; round++) {
        const some = Array.from({ length: 1 + below(4, random) }, () => pick(parts, random));
        let text = '';
        while (text.length < 3000 + 2000 * (round % 3)) text += pick(some, random);
        for (const limit of [1, 75, 300, Number.POSITIVE_INFINITY]) {
          const expected = full(text).slice(0, limit);
          const ids = long.first(text, limit);
          expect(ids.slice(0, limit), JSON.stringify(some)).toEqual(expected);
          expect(ids.length).toBeGreaterThanOrEqual(expected.length);
        }
      }
    });

    it.each([
      ['words', 'a photo of a dog, '],
      ['one letter', 'a'],
      ['digits', '1'],
      ['emoji', '😀'],
      ['Chinese', '漢字'],
      ['signs', '!?'],
      ['letters and digits', 'ab1'],
      ['spaces', ' '],
    ])('takes milliseconds for a megabyte of %s', (_, unit) => {
      const tokenizer = ClipTokenizer.load(VOCABULARY!);
      const text = unit.repeat(2 ** 20 / unit.length);
      const begin = text.slice(0, 3000);
      tokenizer.encode('a'.repeat(5000));
      const start = performance.now();
      const ids = tokenizer.encode(text);
      // Some 20 ms alone; the whole of it takes seconds.
      expect(performance.now() - start).toBeLessThan(500);
      expect(ids).toEqual(tokenizer.encode(begin));
      expect(tokenizer.truncates(text)).toBe(unit !== ' ');
    });
  },
);
