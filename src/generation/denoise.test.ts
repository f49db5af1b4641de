import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { releaseGarbage } from '../../test/collect-garbage.js';
import {
  expectAllclose,
  golden,
  goldenFolders,
  goldenResampler,
  readGolden,
  target,
} from '../../test/golden.js';
import { readAdapter } from '../adapters/adapter-file.js';
import type { ImagePrompt } from '../adapters/image-prompt.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import { unetBackbone } from '../diffusion/unet-model.js';
import { readSchedulerConfig, type SamplerName } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import { memoryStats, noGrad, type Tensor, zeros } from '../torch/index.js';
import { loadImageEncoder } from '../weights/image-encoders.js';
import { loadUNet, loadVAE } from '../weights/load.js';
import { decodeLatents, denoise, type Prompts } from './denoise.js';

// What is counted must not be changed by garbage of the tests before.
beforeEach(releaseGarbage);

/** The original's run, as it was recorded in a folder. */
function open(folder: string) {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  const { resampler } = JSON.parse(readFileSync(join(folder, '../train/config.json'), 'utf8'));
  const recorded = readGolden(join(folder, 'generate.safetensors'));
  const of = (key: string): Tensor => recorded.get(key) as Tensor;
  const unet = loadUNet(join(folder, config.unet), target);
  const adapter = new IPAdapter(unet.sites(), goldenResampler(resampler));
  adapter.loadStateDict(readAdapter(join(folder, config.adapter)), 'golden');
  adapter.to(target);
  const scheduler = readSchedulerConfig(join(folder, 'scheduler'));
  const text: Prompts = {
    positive: { text: of('prompt_embeds') },
    negative: { text: of('negative_prompt_embeds') },
    images: [],
  };
  const image: ImagePrompt = {
    ...{ adapter, tokens: of('ip_tokens'), negativeTokens: of('uncond_ip_tokens') },
    ...{ scale: 1, range: [0, 1] },
  };
  return {
    ...{ folder, config, recorded, of, adapter, text },
    backbone: unetBackbone(unet),
    /** With the image prompt, as it is or changed. */
    prompts: (change: Partial<ImagePrompt> = {}): Prompts => ({ ...text, images: [{ ...image, ...change }] }),
    sampler: (name?: SamplerName) => createSampler(scheduler, name),
    settings: {
      steps: config.num_inference_steps,
      guidanceScale: config.guidance_scale,
    },
    noise: () => of('initial_latents'),
  };
}

describe.each(goldenFolders('generate'))('the original generates, %s', (folder) => {
  const { config, recorded, of, backbone, adapter, sampler, settings, prompts, noise } = open(folder);

  it('the tokens of the prompt, and of the zero image', () => {
    using _ = noGrad();
    const encoder = loadImageEncoder(join(folder, config.image_encoder), target);
    const features = encoder.hiddenStates(of('clip_pixel_values'), -2);
    expectAllclose(features, of('image_hidden_states'), 1e-5);
    expectAllclose(adapter.call(features), of('ip_tokens'), 1e-4);
    const zero = encoder.hiddenStates(zeros(of('clip_pixel_values').shape, target), -2);
    expectAllclose(adapter.call(zero), of('uncond_ip_tokens'), 1e-4);
  });

  it.each(config.scales as number[])(
    'the latents after every step, and the image, at scale %f',
    async (scale) => {
      const name = `scale${scale.toFixed(1)}`;
      const latents = await denoise(backbone, sampler(), prompts({ scale }), settings, noise, {
        onStep: ({ step, latents }) =>
          expectAllclose(latents, of(`${name}.latents_per_step`).select(0, step - 1), 1e-4),
      });
      expectAllclose(latents, of(`${name}.final_latents`), 1e-4);
      using _ = noGrad();
      const vae = loadVAE(join(folder, config.vae), target);
      expectAllclose(vae.decode(latents.mul(1 / vae.config.scalingFactor)), of(`${name}.decoded`), 1e-4);
      const bytes = decodeLatents(vae, latents).toNumbers();
      const shares = recorded.get(`${name}.image`)?.toNumbers() ?? [];
      const errors = shares.map((share, i) => Math.abs(share * 255 - (bytes[i] as number)));
      // Half a level by rounding, half a level (2e-3) by the order of sums.
      expect(Math.max(0, ...errors)).toBeLessThan(1);
    },
  );
});

describe('denoise', () => {
  const { backbone, sampler, settings, prompts, text, noise } = open(golden('generate') as string);
  const bytesOf = (tensor: Tensor) => Buffer.from(tensor.toBytes()).toString('base64');
  const bytes = async (prompts: Prompts) =>
    bytesOf(await denoise(backbone, sampler(), prompts, settings, noise));

  it('with scale 0 gives what it does without an adapter, to the bit', async () => {
    const without = await bytes(text);
    expect(await bytes(prompts())).not.toEqual(without);
    expect(await bytes(prompts({ scale: 0 }))).toEqual(without);
  });

  it('lets the image prompt act only between start and end', async () => {
    const perStep = async (change: Partial<ImagePrompt>) => {
      const found: string[] = [];
      const onStep = ({ latents }: { latents: Tensor }) => found.push(bytesOf(latents));
      await denoise(backbone, sampler(), prompts(change), settings, noise, { onStep });
      return found;
    };
    const always = await perStep({});
    const first = await perStep({ range: [0, 0.4] });
    expect(first.slice(0, 2)).toEqual(always.slice(0, 2));
    expect(first[2]).not.toBe(always[2]);
    const never = await perStep({ scale: 0 });
    const later = await perStep({ range: [0.4, 1] });
    expect(later.slice(0, 2)).toEqual(never.slice(0, 2));
    expect(later[2]).not.toBe(never[2]);
  });

  it('without guidance runs the UNet on the condition alone', async () => {
    const { positive } = text;
    const [{ tokens }] = prompts().images as [ImagePrompt];
    const alone = { ...prompts({ negativeTokens: tokens }), negative: positive };
    const [one, both] = [
      await denoise(backbone, sampler(), prompts(), { ...settings, guidanceScale: 1 }, noise),
      await denoise(backbone, sampler(), alone, settings, noise),
    ];
    expectAllclose(one, both, 1e-4);
  });

  it('with both sides of guidance in turn draws the same', async () => {
    const inTurn = { ...settings, guidanceBatch: 'in-turn' } as const;
    const [one, other] = [
      await denoise(backbone, sampler(), prompts(), settings, noise),
      await denoise(backbone, sampler(), prompts(), inTurn, noise),
    ];
    expectAllclose(other, one, 1e-4);
  });

  it('needs no more memory for more steps, and leaves nothing', async () => {
    const most = async (steps: number) => {
      const before = memoryStats().liveTensors;
      const [tensors, allocated] = [[] as number[], [] as number[]];
      const onStep = () => {
        tensors.push(memoryStats().liveTensors - before);
        allocated.push(memoryStats().cpuAllocatedBytes);
      };
      for (const name of ['pndm', 'dpmpp-2m', 'ddpm'] as const) {
        (
          await denoise(backbone, sampler(name), prompts(), { ...settings, steps }, noise, { onStep })
        ).dispose();
        expect(memoryStats().liveTensors - before, name).toBe(0);
      }
      return { tensors: Math.max(...tensors), allocated: Math.max(...allocated) };
    };
    expect(await most(25)).toEqual(await most(5));
  });

  it('stops where it is told to, and leaves nothing', async () => {
    const before = memoryStats().liveTensors;
    const abort = new AbortController();
    let last = 0;
    const onStep = ({ step }: { step: number }) => {
      last = step;
      if (step === 3) abort.abort();
    };
    const hooks = { signal: abort.signal, onStep };
    await expect(denoise(backbone, sampler('pndm'), prompts(), settings, noise, hooks)).rejects.toThrow(
      /abort/i,
    );
    expect(last).toBe(3);
    expect(memoryStats().liveTensors).toBe(before);
  });

  it('gives the error of a hook that throws, and leaves nothing', async () => {
    const before = memoryStats().liveTensors;
    const onStep = () => {
      throw new Error('in the hook');
    };
    await expect(denoise(backbone, sampler(), prompts(), settings, noise, { onStep })).rejects.toThrow(
      'in the hook',
    );
    expect(memoryStats().liveTensors).toBe(before);
  });
});
