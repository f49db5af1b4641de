import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openControlNet } from '../../src/diffusion/controlnet.js';
import { unetBackbone } from '../../src/diffusion/unet-model.js';
import { releaseTensors } from '../../src/generation/conditions.js';
import { denoise } from '../../src/generation/denoise.js';
import { startImage } from '../../src/generation/start-image.js';
import { readSchedulerConfig } from '../../src/schedulers/config.js';
import { createSampler } from '../../src/schedulers/create.js';
import { memoryStats, type Tensor, tidy } from '../../src/torch/index.js';
import { loadUNet, loadVAE } from '../../src/weights/load.js';
import { golden, readGolden, target } from '../golden.js';

// In ../shared/golden, if that is here.
const folder = golden('controlnet');

it.skipIf(folder === null)(
  'holds no more for more steps, with a mask and two ControlNets, and leaves nothing',
  async () => {
    const path = (name: string): string => join(folder as string, name);
    const recorded = readGolden(path('io.safetensors'));
    const of = (key: string): Tensor => recorded.get(key) as Tensor;
    const unet = loadUNet(path('../unet/unet'), target);
    const backbone = unetBackbone(unet);
    const net = openControlNet(path('controlnet'), { unet: unet.config, downsample: 8, latentChannels: 4 })(
      target,
    );
    const text = {
      positive: { text: of('prompt_embeds') },
      negative: { text: of('negative_prompt_embeds') },
    };
    const vae = loadVAE(path('../vae/vae'), target);
    const image = tidy(() => of('image').mul(2).sub(1));
    const values = Uint8Array.from({ length: 64 * 96 }, (_, i) => (i % 64 < 32 ? 0 : 1));
    const most = async (steps: number) => {
      const before = memoryStats().liveTensors;
      const live: number[] = [];
      const allocated: number[] = [];
      const start = startImage(vae, image, 0.9, { values, width: 64, height: 96 }, { takesMask: false });
      const nets = [0.5, 1].map((scale) => ({
        net,
        condition: net.embed(of('image')),
        scale,
        range: [0, 1] as const,
      }));
      const prompts = { ...text, images: [], start, controls: { nets, guessMode: true } };
      const noise = () => of('initial_latents').clone();
      const onStep = () => {
        live.push(memoryStats().liveTensors - before);
        allocated.push(memoryStats().cpuAllocatedBytes);
      };
      for (const name of ['pndm', 'heun', 'dpmpp-2m-sde'] as const) {
        const sampler = createSampler(readSchedulerConfig(path('scheduler')), name);
        (await denoise(backbone, sampler, prompts, { steps, guidanceScale: 5 }, noise, { onStep })).dispose();
      }
      releaseTensors([start, nets.map(({ condition }) => condition)]);
      expect(memoryStats().liveTensors - before).toBe(0);
      return { live: Math.max(...live), allocated: Math.max(...allocated) };
    };
    expect(await most(30)).toEqual(await most(10));
  },
);
