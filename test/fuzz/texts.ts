/** @file Hostile JSON and text: tokenizers, captions, and the settings of processors and schedulers. */
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Random } from '../../demo/world/random.js';
import { ImageProcessor } from '../../src/images/image-processor.js';
import { ClipTokenizer } from '../../src/models/clip/clip-tokenizer.js';
import { readSchedulerConfig, samplerNames } from '../../src/schedulers/config.js';
import { createSampler } from '../../src/schedulers/create.js';
import { tidy } from '../../src/torch/index.js';
import { below, mutateBytes } from './bytes.js';
import { mutateJson } from './json.js';
import type { Target } from './target.js';

const demo = fileURLToPath(new URL('../../demo/models', import.meta.url));

/** Each of a tokenizer's files in turn, the others left as they are. */
export function tokenizerTargets(): Record<string, (folder: string) => Target> {
  const json = (name: string) => (folder: string) => {
    cpSync(join(demo, 'tokenizer'), folder, { recursive: true });
    const seed =
      name === 'tokenizer.json' ? wholeTokenizer() : readFileSync(join(demo, 'tokenizer', name), 'utf8');
    const file = join(folder, name);
    return { file, make: (random: Random) => mutateJson([seed], random), read: () => tokenize(folder) };
  };
  const merges = (folder: string) => {
    cpSync(join(demo, 'tokenizer'), folder, { recursive: true });
    const seed = readFileSync(join(demo, 'tokenizer', 'merges.txt'));
    return {
      file: join(folder, 'merges.txt'),
      make: (random: Random) => mutateBytes([seed], random),
      read: () => tokenize(folder),
    };
  };
  return {
    'tokenizer vocab.json': json('vocab.json'),
    'tokenizer_config.json': json('tokenizer_config.json'),
    'tokenizer.json': json('tokenizer.json'),
    'tokenizer merges.txt': merges,
  };
}

function wholeTokenizer(): string {
  return JSON.stringify({
    added_tokens: [
      { id: 4, content: '<|startoftext|>', special: true, normalized: false },
      { id: 5, content: '<|endoftext|>', special: true, normalized: false },
    ],
    normalizer: {
      type: 'Sequence',
      normalizers: [
        { type: 'NFC' },
        { type: 'Replace', pattern: { Regex: '\\s+' }, content: ' ' },
        { type: 'Lowercase' },
      ],
    },
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        { type: 'Split', pattern: { Regex: "'s|[a-z]+|[^\\sa-z]+" }, behavior: 'Removed', invert: true },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true },
      ],
    },
    post_processor: null,
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      unk_token: '<|endoftext|>',
      end_of_word_suffix: '</w>',
      fuse_unk: false,
      vocab: { a: 0, b: 1, 'b</w>': 2, 'ab</w>': 3, '<|startoftext|>': 4, '<|endoftext|>': 5 },
      merges: ['a b</w>'],
    },
  });
}

function tokenize(folder: string): void {
  const tokenizer = ClipTokenizer.load(folder);
  tokenizer.encode('a red circle, <|endoftext|> 42 élan');
  tokenizer.fingerprint();
}

/** The captions themselves: any text at all. */
export function captionTarget(folder: string): Target {
  const tokenizer = ClipTokenizer.load(join(demo, 'tokenizer'));
  const file = join(folder, 'caption.txt');
  const seeds = [
    "a red circle, it's 42 élan",
    '中文\u0301\u200d👩‍👩‍👧',
    '<|startoftext|>a<|endoftext|>',
    'ab '.repeat(300),
    'x'.repeat(3000),
  ];
  const make = (random: Random) => {
    const bytes = mutateBytes(
      seeds.map((seed) => Buffer.from(seed)),
      random,
    );
    if (random() < 0.9 || bytes.length === 0) return bytes;
    // A book of it.
    return Buffer.alloc(bytes.length + below(300_000, random), bytes);
  };
  return {
    file,
    make,
    // As bytes and as UTF-16, where halves of surrogate pairs can stand alone.
    read: () =>
      ['utf8', 'utf16le'].map((encoding) => {
        const text = readFileSync(file, encoding as BufferEncoding);
        return [tokenizer.encode(text), tokenizer.truncates(text)];
      }),
  };
}

export function processorTarget(folder: string): Target {
  const seed = JSON.stringify({
    crop_size: { height: 32, width: 32 },
    do_center_crop: true,
    do_convert_rgb: true,
    do_normalize: true,
    do_rescale: true,
    do_resize: true,
    image_mean: [0.48, 0.45, 0.4],
    image_std: [0.26, 0.26, 0.27],
    resample: 3,
    rescale_factor: 0.00392,
    size: { shortest_edge: 32 },
  });
  const file = join(folder, 'preprocessor_config.json');
  const image = { data: new Uint8Array(3 * 40 * 30).fill(7), width: 40, height: 30 };
  return {
    file,
    make: (random) =>
      mutateJson([seed, seed.replace(/\{"height":32,"width":32\}|\{"shortest_edge":32\}/g, '32')], random),
    read: () => ImageProcessor.load(folder, 32).pixelValues([image]),
  };
}

export function schedulerTarget(folder: string): Target {
  const file = join(folder, 'scheduler_config.json');
  const published = new URL('../golden/schedulers/sd15_scheduler_config.json', import.meta.url);
  const seeds = [
    readFileSync(published, 'utf8'),
    JSON.stringify({ _class_name: 'DDIMScheduler', trained_betas: [0.1, 0.2, 0.3], num_train_timesteps: 3 }),
    '{"_class_name": "DDPMScheduler", "beta_start": 0.1, "beta_schedule": "linear", "lambda_min_clipped": -1e999}',
  ];
  let turn = 0;
  const read = () => {
    const name = samplerNames[turn++ % samplerNames.length];
    using sampler = createSampler(readSchedulerConfig(folder), name);
    sampler.setTimesteps(3);
  };
  return { file, make: (random) => mutateJson(seeds, random), read: () => tidy(read) };
}
