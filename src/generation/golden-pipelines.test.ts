/** What diffusers generates from images, with masks and with a ControlNet, recorded (../shared/golden/README-2.md). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, readGolden, target } from '../../test/golden.js';
import type { ImagePrompt } from '../adapters/image-prompt.js';
import { openAdapter } from '../adapters/open-adapter.js';
import type { Conditioning } from '../diffusion/conditioning.js';
import { openControlNet } from '../diffusion/controlnet.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { unetBackbone } from '../diffusion/unet-model.js';
import { readSchedulerConfig } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import { type Tensor, tensor } from '../torch/index.js';
import { loadUNet, loadVAE } from '../weights/load.js';
import { denoise, type Prompts } from './denoise.js';
import { nullFeatures, projectFeatures } from './image-prompt.js';
import { type Mask, startImage } from './start-image.js';

const tolerance = 1e-3;

function open(folder: string) {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  const recorded = readGolden(join(folder, 'io.safetensors'));
  const of = (key: string): Tensor => recorded.get(key) as Tensor;
  const path = (name: string): string => join(folder, name);
  const unet = loadUNet(path(config.models.unet), target);
  const backbone = unetBackbone(unet);
  const vae = config.models.vae === undefined ? null : loadVAE(path(config.models.vae), target);
  const text = { positive: { text: of('prompt_embeds') }, negative: { text: of('negative_prompt_embeds') } };
  const adapterPrompt = (
    run: string,
    scale: number,
    sites = backbone.sites,
    file = config.adapter,
  ): ImagePrompt => {
    const opened = openAdapter(path(file), sites);
    opened.module.to(target);
    const tokens = projectFeatures(opened.module, of(`${run}.image_embeds`).squeeze(0));
    const negativeTokens = projectFeatures(
      opened.module,
      nullFeatures(opened, undefined, undefined).to(target),
    );
    return { adapter: opened.module, tokens, negativeTokens, scale, range: [0, 1] };
  };
  return { config, of, path, unet, backbone, vae: vae as NonNullable<typeof vae>, text, adapterPrompt };
}

/** Gives these tensors as noise, one after another, and then none. */
function draws(...tensors: Tensor[]): () => Tensor {
  const rest = [...tensors];
  return () => (rest.shift() as Tensor).clone();
}

const img2img = golden('img2img');

describe.skipIf(img2img === null)('img2img (../shared/golden)', () => {
  const folder = img2img as string;

  it.each(['plain', 'adapter', 'sdxl'])('%s', async (run) => {
    const { config, of, path, backbone, vae, text, adapterPrompt } = open(folder);
    const isXL = run === 'sdxl';
    const model = isXL ? openDiffusionModel(path(config.sdxl_models)) : null;
    const network = model === null ? backbone : model.loadBackbone(target);
    const sides: Pick<Prompts, 'positive' | 'negative'> = { ...text };
    if (model !== null) {
      const size = { width: 64, height: 64 };
      const sizes = model.sizeConditioning?.(
        [{ original: size, crop: { top: 0, left: 0 }, target: size }],
        'cpu',
      );
      using encoder = model.loadTextEncoder(target);
      const tokenizer = model.tokenizer();
      const condition = (prompt: string): Conditioning => ({
        ...encoder.condition(
          tensor(tokenizer.encode(prompt), [1, ...tokenizer.shape], 'int64').to(target),
          0,
        ),
        timeIds: sizes?.timeIds.to(target) as Tensor,
      });
      sides.positive = condition(config.prompt_sdxl);
      sides.negative = condition(config.negative_prompt_sdxl);
    }
    const file = isXL ? config.sdxl_adapter : config.adapter;
    const images = run === 'plain' ? [] : [adapterPrompt(run, config.scale, network.sites, file)];
    const image = of(isXL ? 'sdxl.image' : 'image')
      .mul(2)
      .sub(1);
    const networkVAE = model === null ? vae : model.loadVAE(target);
    const start = startImage(networkVAE, image, config.strength, null, { takesMask: false });
    const sampler = createSampler(readSchedulerConfig(path(isXL ? 'scheduler_sdxl' : 'scheduler')));
    let seen = 0;
    await denoise(
      network,
      sampler,
      { ...sides, images, start },
      { steps: config.num_inference_steps, guidanceScale: config.guidance_scale },
      draws(of(`${run}.vae_noise`), of(`${run}.noise`)),
      {
        onStep: ({ step, totalSteps, latents }) => {
          seen++;
          expect(totalSteps).toBe(4);
          expectAllclose(latents, of(`${run}.latents_per_step`).select(0, step - 1), tolerance);
        },
      },
    );
    expect(seen).toBe(4);
    expect(sampler.timesteps.map(Math.fround)).toEqual(of(`${run}.timesteps`).toNumbers());
  });
});

const inpaint = golden('inpaint');

describe.skipIf(inpaint === null)('inpaint (../shared/golden)', () => {
  const folder = inpaint as string;

  it.each(['four_full', 'four_part', 'four_adapter', 'nine_full', 'nine_part'])('%s', async (run) => {
    const { config, of, path, backbone, vae, text, adapterPrompt } = open(folder);
    const isNine = run.startsWith('nine');
    const network = isNine ? unetBackbone(loadUNet(path(config.nine_channel_unet), target)) : backbone;
    const { strength, num_inference_steps: steps } = config.runs[run];
    const [, , height = 0, width = 0] = of('mask').shape;
    const values = Uint8Array.from(of('mask').toNumbers(), (value) => (value < 0.5 ? 0 : 1));
    const mask: Mask = { values, width, height };
    const start = startImage(vae, of('image').mul(2).sub(1), strength, mask, { takesMask: isNine });
    expectAllclose(start.inpainting?.mask as Tensor, of('mask_latent'), 0);
    const images = run === 'four_adapter' ? [adapterPrompt(run, config.adapter_scale)] : [];
    const noise =
      isNine && strength === 1
        ? [of(`${run}.noise`), of(`${run}.masked_vae_noise`)]
        : ['vae_noise', 'noise', 'masked_vae_noise'].map((name) => of(`${run}.${name}`));
    let seen = 0;
    const latents = await denoise(
      network,
      createSampler(readSchedulerConfig(path('scheduler'))),
      { ...text, images, start },
      { steps, guidanceScale: config.guidance_scale },
      draws(...noise),
      {
        onStep: ({ step, latents }) => {
          seen++;
          expectAllclose(latents, of(`${run}.latents_per_step`).select(0, step - 1), tolerance);
        },
      },
    );
    expect(seen).toBe(4);
    if (isNine) return;
    // What is not masked is the image's latents, to the bit.
    const kept = start.inpainting?.mask.neg().add(1) as Tensor;
    const image = start.image.mean.add(start.image.std.mul(of(`${run}.vae_noise`)));
    expectAllclose(latents.mul(kept), image.mul(kept), 0);
  });
});

const controlnet = golden('controlnet');

describe.skipIf(controlnet === null)('controlnet (../shared/golden)', () => {
  const folder = controlnet as string;
  const openNet = () => {
    const opened = open(folder);
    const { unet, path } = opened;
    const base = { unet: unet.config, downsample: 8, latentChannels: 4 };
    return { ...opened, net: openControlNet(path('controlnet'), base)(target) };
  };

  it.each(['full', 'half', 'window', 'adapter'])('%s', async (run) => {
    const { config, of, path, backbone, text, adapterPrompt, net } = openNet();
    const settings = config.runs[run];
    const condition = net.embed(of('image'));
    const control = {
      ...{ net, condition, scale: settings.controlnet_conditioning_scale },
      range: [settings.control_guidance_start ?? 0, settings.control_guidance_end ?? 1] as const,
    };
    const images = run === 'adapter' ? [adapterPrompt(run, config.adapter_scale)] : [];
    const prompts: Prompts = { ...text, images, controls: { nets: [control], guessMode: false } };
    for (const guidanceBatch of ['together', 'in-turn'] as const) {
      let seen = 0;
      await denoise(
        backbone,
        createSampler(readSchedulerConfig(path('scheduler'))),
        prompts,
        { steps: config.num_inference_steps, guidanceScale: config.guidance_scale, guidanceBatch },
        () => of('initial_latents'),
        {
          onStep: ({ step, latents }) => {
            seen++;
            expectAllclose(latents, of(`${run}.latents_per_step`).select(0, step - 1), tolerance);
          },
        },
      );
      expect(seen).toBe(4);
    }
  });

  it('in guess mode leaves the prediction of the negative prompt as it is', async () => {
    const { of, path, backbone, text, net } = openNet();
    const control = { net, condition: net.embed(of('image')), scale: 1, range: [0, 1] as const };
    const after = async (prompts: Prompts) => {
      const sampler = createSampler(readSchedulerConfig(path('scheduler')));
      const noise = () => of('initial_latents').clone();
      return denoise(backbone, sampler, prompts, { steps: 2, guidanceScale: 5 }, noise);
    };
    const guess: Prompts = { ...text, images: [], controls: { nets: [control], guessMode: true } };
    const inTurn = await denoise(
      backbone,
      createSampler(readSchedulerConfig(path('scheduler'))),
      guess,
      { steps: 2, guidanceScale: 5, guidanceBatch: 'in-turn' },
      () => of('initial_latents').clone(),
    );
    expectAllclose(await after(guess), inTurn, 1e-5);
    const normal = await after({ ...guess, controls: { nets: [control], guessMode: false } });
    expect(() => expectAllclose(normal, inTurn, 1e-3)).toThrow();
  });
});
