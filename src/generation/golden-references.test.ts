/** What diffusers generates with several adapters, references, masks and scales by block (../shared/golden/README-2.md). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import { openImageEncoder } from '../adapters/image-encoder.js';
import type { ImagePrompt } from '../adapters/image-prompt.js';
import { openAdapter } from '../adapters/open-adapter.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { readImage } from '../images/image.js';
import { fileSource } from '../images/image-source.js';
import type { BlockScales } from '../options/reference-options.js';
import type { ReferenceSettings } from '../options/reference-types.js';
import { readSchedulerConfig } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import { noGrad, type Tensor, tensor } from '../torch/index.js';
import { denoise, type Prompts } from './denoise.js';
import { featuresOf, nullFeatures } from './image-prompt.js';
import { promptsOfReferences } from './references.js';

interface Recorded {
  models: string;
  adapters: string[];
  prompt: string;
  negative_prompt: string;
  guidance_scale: number;
  num_inference_steps: number;
  latent_hw: [number, number];
  images: string[][];
  runs: Record<string, { scale: BlockScales | (number | number[] | BlockScales)[]; adapters?: number }>;
}

const folder = golden('ip_attention_masks');
const runs = ['masks', 'several_images', 'style_layout', 'per_block_two', 'embeds_given'];

describe.skipIf(folder === null)('ip_attention_masks/pipeline (../shared/golden)', () => {
  it.each(runs)('%s: the latents after every step', async (run) => {
    const place = folder as string;
    const config = JSON.parse(readFileSync(join(place, 'config.json'), 'utf8')) as Recorded;
    const recorded = readGolden(join(place, 'pipeline.io.safetensors'));
    const of = (key: string): Tensor => recorded.get(key) as Tensor;
    const model = openDiffusionModel(join(place, config.models));
    const backbone = model.loadBackbone(target);
    const { scale, adapters: count = 2 } = config.runs[run] as Recorded['runs'][string];
    using _ = noGrad();
    using encoder = openImageEncoder(join(place, config.models, 'image_encoder')).load(target);
    const scales = Array.isArray(scale) ? scale : [scale];
    const [height, width] = config.latent_hw;
    const images: ImagePrompt[] = [];
    for (const [i, path] of config.adapters.slice(0, count).entries()) {
      const opened = openAdapter(join(place, path), backbone.sites);
      opened.module.to(target);
      const given = run === 'embeds_given' ? 'given.' : '';
      const features = of(`${given}image_embeds.${i}`).select(0, 0);
      const negatives = of(`${given}negative_image_embeds.${i}`).select(0, 0);
      if (run === 'several_images') {
        const absent = nullFeatures(opened, encoder, undefined).to(target);
        expectAllclose(absent.select(0, 0), negatives.select(0, 0), 1e-4);
        for (const [k, file] of (config.images[i] as string[]).entries()) {
          const image = await readImage(fileSource(join(place, file)));
          const own = featuresOf(image, encoder, opened.kind.feature, 'crop').features;
          expectAllclose(own.select(0, 0), features.select(0, k), 1e-4);
        }
      }
      const factor = scales[i] as number | number[] | BlockScales;
      const list = Array.from({ length: features.shape[0] as number }, (_, k) => ({
        features: features.slice(0, k, k + 1),
        negatives: negatives.slice(0, k, k + 1),
        weight: Array.isArray(factor) ? (factor[k] as number) : 1,
      }));
      const masks = run === 'masks' ? of(`masks.${i}`) : null;
      const settings: ReferenceSettings = {
        ...(typeof factor === 'number' && { scale: factor }),
        ...(typeof factor === 'object' && !Array.isArray(factor) && { blockScales: factor }),
        // One mask for one image is for all: its weight is then a factor on the features, and the scale is the scale.
        ...(Array.isArray(factor) && factor.length === 1 && { scale: factor[0] }),
        maskFit: 'diffusers',
      };
      if (list.length === 1) (list[0] as (typeof list)[0]).weight = 1;
      const encoded = {
        adapter: opened.module,
        ...{ lists: [list], listOf: [0], composition: [], nullFeatures: null, negative: null },
        masks: masks === null ? [] : list.map((_, k) => masks.select(1, k)),
      };
      const frame = { latents: config.latent_hw, trainedTimesteps: 1000 };
      images.push(...promptsOfReferences(encoded, settings, 'float32', frame));
    }
    const tokenizer = model.tokenizer();
    using textEncoder = model.loadTextEncoder(target);
    const size = { width: width * 8, height: height * 8 };
    const condition = (text: string) => ({
      ...textEncoder.condition(
        tensor(tokenizer.encode(text), [1, ...tokenizer.shape], 'int64').to(target),
        0,
      ),
      ...model.sizeConditioning?.(
        [{ original: size, crop: { top: 0, left: 0 }, target: size }],
        target.device,
      ),
    });
    const prompts: Prompts = {
      positive: condition(config.prompt),
      negative: condition(config.negative_prompt),
      images,
    };
    let steps = 0;
    await denoise(
      backbone,
      createSampler(readSchedulerConfig(join(place, 'scheduler'))),
      prompts,
      { steps: config.num_inference_steps, guidanceScale: config.guidance_scale },
      () => of('initial_latents'),
      {
        onStep: ({ step, latents }) => {
          expectAllclose(latents, of(`${run}.latents_per_step`).select(0, step - 1), 1e-4);
          steps++;
        },
      },
    );
    expect(steps).toBe(config.num_inference_steps);
  });
});
