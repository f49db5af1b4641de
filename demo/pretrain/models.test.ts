import { readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ClipTokenizer } from '../../src/models/clip/clip-tokenizer.js';
import { DDPMScheduler } from '../../src/schedulers/ddpm.js';
import { loadImageEncoder } from '../../src/weights/image-encoders.js';
import { loadTextEncoder, loadUNet, loadVAE } from '../../src/weights/load.js';
import { captionWords, fullCaption, randomCaption } from '../world/caption.js';
import { seededRandom } from '../world/random.js';
import { sampleScenes } from '../world/scene.js';

const root = join(import.meta.dirname, '../models');

describe('the shipped models', () => {
  it('load, and fit together', () => {
    const unet = loadUNet(join(root, 'unet'));
    const vae = loadVAE(join(root, 'vae'));
    const text = loadTextEncoder(join(root, 'text_encoder'));
    const image = loadImageEncoder(join(root, 'image_encoder'));
    expect(text.config.hiddenSize).toBe(unet.config.crossAttentionDim[0]);
    // The text's pooled state is compared with the image embedding without a projection.
    expect(image.pooledDim).toBe(text.config.hiddenSize);
    expect(vae.config.latentChannels).toBe(unet.config.inChannels);
    expect(DDPMScheduler.fromConfig(join(root, 'scheduler')).config.prediction_type).toBe('v_prediction');
  });

  it('take at most 16 MB', () => {
    const files = readdirSync(root, { recursive: true, encoding: 'utf8' }).map((name) =>
      statSync(join(root, name)),
    );
    expect(files.reduce((sum, file) => sum + (file.isFile() ? file.size : 0), 0)).toBeLessThanOrEqual(16e6);
  });

  it('encode each word of the captions as one token, and the longest caption without truncation', () => {
    const tokenizer = ClipTokenizer.load(join(root, 'tokenizer'));
    const eos = tokenizer.encode('').at(-1);
    for (const word of captionWords()) expect(tokenizer.encode(word)[2], word).toBe(eos);
    const random = seededRandom(1);
    for (const scene of sampleScenes(200, 'held-out', 1))
      for (const caption of [fullCaption(scene), randomCaption(scene, random)])
        expect(tokenizer.encode(caption).indexOf(eos as number), caption).toBeLessThan(
          tokenizer.maxLength - 1,
        );
  });
});
