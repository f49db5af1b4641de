/** What does not go together is refused when a model is opened; test/e2e/parts.test.ts does so through every command. */
import { cpSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { golden } from '../../test/golden.js';
import { readJson, writeJson } from '../../test/model-files.js';
import { ConfigError } from '../base/errors.js';
import { openDiffusionModel } from './open-model.js';

const xl = golden('sdxl_base_models');

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-check-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** Copies the small files of a model, with some keys replaced, and opens it. */
function open(parts: readonly (readonly [part: string, source: string, change?: object])[]): () => void {
  for (const [part, source, change] of parts) {
    const config = readJson(join(golden(source) as string, 'config.json'));
    cpSync(join(golden(source) as string, 'config.json'), join(root, part, 'config.json'));
    writeJson(join(root, part, 'config.json'), { ...config, ...change });
  }
  return () => openDiffusionModel(root);
}

type Changes = Record<string, object>;

const sd = (changes: Changes = {}) =>
  open(['unet', 'vae', 'text_encoder'].map((part) => [part, `${part}/${part}`, changes[part]]));
const sdxl = (changes: Changes = {}) =>
  open(
    ['unet', 'vae', 'text_encoder', 'text_encoder_2'].map((part) => [
      part,
      `sdxl_base_models/${part}`,
      changes[part],
    ]),
  );

describe('Stable Diffusion', () => {
  it('fits', () => expect(sd()).not.toThrow());

  it('may be for inpainting', () => {
    expect(sd({ unet: { in_channels: 9 } })).not.toThrow();
    expect(openDiffusionModel(root).takesMask).toBe(true);
  });

  it('may have other widths where a block has no attention', () => {
    const blocks = readJson(join(golden('unet/unet') as string, 'config.json'));
    const { down_block_types: down, cross_attention_dim: width } = blocks;
    const dims = down.map((type: string, i: number) =>
      type === 'DownBlock2D' && i < down.length - 1 ? width + 8 : width,
    );
    expect(sd({ unet: { cross_attention_dim: dims } })).not.toThrow();
  });

  it.each<[string, Changes, RegExp]>([
    [
      'a UNet for editing',
      { unet: { in_channels: 8 } },
      /takes 8 channels and gives 4, as for editing by instructions; take .*whose UNet takes 9/,
    ],
    [
      'one block that attends to another width',
      { unet: { cross_attention_dim: [32, 48, 32, 32] } },
      /attends to text 48 wide, and the text encoder \(.*text_encoder\) gives text 32 wide/,
    ],
    ['latents of other channels', { vae: { latent_channels: 8 } }, /latents of 4 channels, .* latents of 8/],
  ])('does not fit with %s', (_, changes, message) => {
    const opening = sd(changes);
    expect(opening).toThrow(ConfigError);
    expect(opening).toThrow(message);
  });
});

describe.skipIf(xl === null)('SDXL (../shared/golden)', () => {
  it('fits, also where its second text encoder is a whole CLIP', () => {
    expect(sdxl()).not.toThrow();
    const { text_config: _, ...text } = readJson(join(xl as string, 'text_encoder_2/config.json'));
    expect(
      sdxl({ text_encoder_2: { model_type: 'clip', text_config: { ...text, projection_dim: 7 } } }),
    ).not.toThrow();
  });

  it('does not fit with its text encoders exchanged', () => {
    const opening = open([
      ['unet', 'sdxl_base_models/unet'],
      ['vae', 'sdxl_base_models/vae'],
      ['text_encoder', 'sdxl_base_models/text_encoder_2'],
      ['text_encoder_2', 'sdxl_base_models/text_encoder', { architectures: ['CLIPModel'] }],
    ]);
    expect(opening).toThrow(ConfigError);
    expect(opening).toThrow(/in 72 numbers, and the second text encoder .* gives 32 \+ 6 × 8 = 80/);
  });

  it('is the refiner, with its one text encoder', () => {
    const opening = open([
      [
        'unet',
        'sdxl_base_models/unet',
        { cross_attention_dim: 24, projection_class_embeddings_input_dim: 64 },
      ],
      ['vae', 'sdxl_base_models/vae'],
      ['text_encoder_2', 'sdxl_base_models/text_encoder_2'],
    ]);
    expect(opening).toThrow(/is the refiner of SDXL/);
  });
});
