/** What diffusers generates with each kind and family, recorded (../shared/golden/README-2.md). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import { type ImageEncoderSource, openImageEncoder } from '../adapters/image-encoder.js';
import { openAdapter } from '../adapters/open-adapter.js';
import type { Conditioning } from '../diffusion/conditioning.js';
import type { Backbone, DiffusionModel } from '../diffusion/model.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { unetBackbone } from '../diffusion/unet-model.js';
import type { AutoencoderKL } from '../models/vae/autoencoder-kl.js';
import { readSchedulerConfig } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import { noGrad, type Tensor, tensor, tidy } from '../torch/index.js';
import { loadUNet, loadVAE } from '../weights/load.js';
import { denoise, type Prompts } from './denoise.js';
import { nullFeatures, projectFeatures } from './image-prompt.js';

interface Recorded {
  models: string | { unet: string; vae: string; image_encoder: string };
  adapter: string;
  prompts?: string[];
  negative_prompts?: string[];
  scales: number[];
  guidance_scale: number;
  num_inference_steps: number;
}

interface Opened {
  backbone: Backbone;
  vae: AutoencoderKL;
  imageEncoder: ImageEncoderSource;
  /** A whole SDXL, whose text encoders are recorded too. */
  model: DiffusionModel | null;
}

function open({ models }: Recorded, folder: string): Opened {
  if (typeof models === 'string') {
    const model = openDiffusionModel(join(folder, models));
    const imageEncoder = openImageEncoder(join(folder, models, 'image_encoder'));
    return { backbone: model.loadBackbone(target), vae: model.loadVAE(target), imageEncoder, model };
  }
  return {
    backbone: unetBackbone(loadUNet(join(folder, models.unet), target)),
    vae: loadVAE(join(folder, models.vae), target),
    imageEncoder: openImageEncoder(join(folder, models.image_encoder)),
    model: null,
  };
}

/** The conditioning of a prompt, as generation makes it. */
function condition(model: DiffusionModel, prompt: string): Conditioning {
  const tokenizer = model.tokenizer();
  using encoder = model.loadTextEncoder(target);
  const ids = tensor(tokenizer.encode(prompt), [1, ...tokenizer.shape], 'int64').to(target);
  return encoder.condition(ids, 0);
}

const names = ['generate_base', 'generate_full_face', 'generate_sdxl', 'generate_plus_sdxl'];
const places = names.map((name) => [name, golden(name)] as const);

describe.each(places)('%s (../shared/golden)', (_, folder) => {
  it.skipIf(folder === null)('the features, tokens, prompts and latents after every step', async () => {
    const place = folder as string;
    const config = JSON.parse(readFileSync(join(place, 'config.json'), 'utf8')) as Recorded;
    const recorded = readGolden(join(place, 'io.safetensors'));
    const of = (key: string): Tensor => recorded.get(key) as Tensor;
    const { backbone, vae, imageEncoder, model } = open(config, place);
    const opened = openAdapter(join(place, config.adapter), backbone.sites);
    opened.module.to(target);

    using _ = noGrad();
    using encoder = imageEncoder.load(target);
    const features = encoder.encode(of('clip_pixel_values'), opened.kind.feature);
    expectAllclose(features, of('image_embeds').squeeze(0), 1e-4);
    const tokens = projectFeatures(opened.module, features);
    const negativeTokens = projectFeatures(
      opened.module,
      nullFeatures(opened, encoder, undefined).to(target),
    );
    expectAllclose(tokens, of('ip_tokens').squeeze(0), 1e-4);
    expectAllclose(negativeTokens, of('negative_ip_tokens').squeeze(0), 1e-4);

    const positive: Conditioning = { text: of('prompt_embeds') };
    const negative: Conditioning = { text: of('negative_prompt_embeds') };
    const [, , height = 0, width = 0] = of('decoded').shape;
    if (model !== null) {
      Object.assign(positive, { pooled: of('pooled_prompt_embeds') });
      Object.assign(negative, { pooled: of('negative_pooled_prompt_embeds') });
      for (const [texts, expected] of [
        [config.prompts, positive],
        [config.negative_prompts, negative],
      ] as const) {
        const { text, pooled } = condition(model, texts?.[0] as string);
        expectAllclose(text, expected.text, 1e-5);
        expectAllclose(pooled as Tensor, expected.pooled as Tensor, 1e-5);
      }
      const size = { width, height };
      const sizes = [{ original: size, crop: { top: 0, left: 0 }, target: size }];
      for (const one of [positive, negative])
        Object.assign(one, model.sizeConditioning?.(sizes, target.device));
    }
    const scheduler = readSchedulerConfig(join(place, 'scheduler'));
    for (const scale of config.scales) {
      const name = `scale${scale.toFixed(1)}`;
      const image = { adapter: opened.module, tokens, negativeTokens, scale, range: [0, 1] } as const;
      const prompts: Prompts = { positive, negative, images: [image] };
      const latents = await denoise(
        backbone,
        createSampler(scheduler),
        prompts,
        { steps: config.num_inference_steps, guidanceScale: config.guidance_scale },
        () => of('initial_latents'),
        {
          onStep: ({ step, latents }) =>
            expectAllclose(latents, of(`${name}.latents_per_step`).select(0, step - 1), 1e-3),
        },
      );
      if (scale === config.scales[0])
        expectAllclose(
          tidy(() => vae.decode(latents.mul(1 / vae.config.scalingFactor))),
          of('decoded'),
          2e-3,
        );
    }
  });
});

describe('sdxl_base_models (../shared/golden)', () => {
  const folder = golden('sdxl_base_models');

  it.skipIf(folder === null)(
    'encodes prompts as StableDiffusionXLPipeline does, with both tokenizers',
    () => {
      const recorded = readGolden(join(folder as string, 'io.safetensors'));
      const of = (key: string): Tensor => recorded.get(key) as Tensor;
      const { prompts } = JSON.parse(readFileSync(join(folder as string, 'config.json'), 'utf8'));
      const model = openDiffusionModel(folder as string);
      const tokenizer = model.tokenizer();
      const [first, second] = [of('encode.input_ids').toNumbers(), of('encode.input_ids_2').toNumbers()];
      for (const [i, prompt] of (prompts as string[]).entries()) {
        const row = (ids: number[]) => ids.slice(i * 77, (i + 1) * 77);
        expect(tokenizer.encode(prompt)).toEqual([...row(first), ...row(second)]);
        const { text, pooled } = condition(model, prompt);
        expectAllclose(text.squeeze(0), of('encode.prompt_embeds').select(0, i), 1e-5);
        expectAllclose((pooled as Tensor).squeeze(0), of('encode.pooled_prompt_embeds').select(0, i), 1e-5);
      }
      expect(model.absentNegative).toBe('zeros');
      expect(model.latents.scale).toBe(0.13025);
    },
  );
});
