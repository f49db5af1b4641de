import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import {
  expectAllclose,
  golden,
  goldenFolders,
  goldenResampler,
  readGolden,
  target,
} from '../../test/golden.js';
import { readAdapter } from '../adapters/adapter-file.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import { readSchedulerConfig, type SamplerName } from '../schedulers/config.js';
import { createSampler } from '../schedulers/create.js';
import { cat, memoryStats, noGrad, type Tensor, zeros } from '../torch/index.js';
import { loadImageEncoder, loadUNet, loadVAE } from '../weights/load.js';
import { type Conditions, decodeLatents, denoise } from './denoise.js';

/** The original's run, as it was recorded in a folder. */
function open(folder: string) {
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8'));
  const { resampler } = JSON.parse(readFileSync(join(folder, '../train/config.json'), 'utf8'));
  const recorded = readGolden(join(folder, 'generate.safetensors'));
  const of = (key: string): Tensor => recorded.get(key) as Tensor;
  const unet = loadUNet(join(folder, config.unet), target);
  const adapter = new IPAdapter(unet, goldenResampler(resampler));
  adapter.loadStateDict(readAdapter(join(folder, config.adapter)), 'golden');
  adapter.to(target);
  const scheduler = readSchedulerConfig(join(folder, 'scheduler'));
  const text = { text: of('prompt_embeds'), negativeText: of('negative_prompt_embeds') };
  return {
    ...{ folder, config, recorded, of, unet, adapter, text },
    sampler: (name?: SamplerName) => createSampler(scheduler, name),
    settings: {
      steps: config.num_inference_steps,
      guidanceScale: config.guidance_scale,
      scale: 1,
      start: 0,
      end: 1,
    },
    conditions: {
      ...text,
      image: { adapter, tokens: of('ip_tokens'), negativeTokens: of('uncond_ip_tokens') },
    },
    noise: () => of('initial_latents'),
  };
}

describe.each(goldenFolders('generate'))('the original generates, %s', (folder) => {
  const { config, recorded, of, unet, adapter, sampler, settings, conditions, noise } = open(folder);

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
    'the latents after every step, and the picture, at scale %f',
    async (scale) => {
      const name = `scale${scale.toFixed(1)}`;
      const latents = await denoise(unet, sampler(), conditions, { ...settings, scale }, noise, {
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
  const { unet, adapter, sampler, settings, conditions, text, noise } = open(golden('generate') as string);
  const { tokens, negativeTokens } = conditions.image;
  const bytesOf = (tensor: Tensor) => Buffer.from(tensor.toBytes()).toString('base64');
  const bytes = async (conditions: Conditions, change: Partial<typeof settings> = {}) =>
    bytesOf(await denoise(unet, sampler(), conditions, { ...settings, ...change }, noise));

  it('with scale 0 gives what it does without an adapter, to the bit', async () => {
    const without = await bytes(text);
    expect(await bytes(conditions)).not.toEqual(without);
    expect(await bytes(conditions, { scale: 0 })).toEqual(without);
    // The processors themselves, too, switched off in place.
    adapter.attach();
    adapter.setScale(0);
    const both = {
      text: cat([text.text, tokens], 1),
      negativeText: cat([text.negativeText, negativeTokens], 1),
    };
    expect(await bytes(both)).toEqual(without);
    adapter.detach();
  });

  it('lets the image prompt act only between start and end', async () => {
    const perStep = async (change: Partial<typeof settings>) => {
      const found: string[] = [];
      const onStep = ({ latents }: { latents: Tensor }) => found.push(bytesOf(latents));
      await denoise(unet, sampler(), conditions, { ...settings, ...change }, noise, { onStep });
      return found;
    };
    const always = await perStep({});
    const first = await perStep({ end: 0.4 });
    expect(first.slice(0, 2)).toEqual(always.slice(0, 2));
    expect(first[2]).not.toBe(always[2]);
    const never = await perStep({ scale: 0 });
    const later = await perStep({ start: 0.4 });
    expect(later.slice(0, 2)).toEqual(never.slice(0, 2));
    expect(later[2]).not.toBe(never[2]);
  });

  it('without guidance runs the UNet on the condition alone', async () => {
    const alone = {
      ...conditions,
      negativeText: text.text,
      image: { ...conditions.image, negativeTokens: tokens },
    };
    const [one, both] = [
      await denoise(unet, sampler(), conditions, { ...settings, guidanceScale: 1 }, noise),
      await denoise(unet, sampler(), alone, settings, noise),
    ];
    expectAllclose(one, both, 1e-4);
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
        (await denoise(unet, sampler(name), conditions, { ...settings, steps }, noise, { onStep })).dispose();
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
    await expect(denoise(unet, sampler('pndm'), conditions, settings, noise, hooks)).rejects.toThrow(
      /abort/i,
    );
    expect(last).toBe(3);
    expect(memoryStats().liveTensors).toBe(before);
  });
});
