/**
 * @file Draws from images, with masks, with ControlNets and with a VAE in tiles, for diffusers to repeat: every pipeline, several
 * samplers, with the adapter of kind plus.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { IPAdapterPipeline } from '../../src/generation/pipeline.js';
import type { PromptOptions } from '../../src/options/generate-types.js';
import type { SamplerName } from '../../src/schedulers/config.js';
import { diffusersScheduler } from './samplers.js';

/** Each draws its noise, if any, from the seed's generator, in diffusers in the same order. */
const samplers = [
  'ddim',
  'euler-a',
  'heun',
  'dpm2-a',
  'dpmpp-2m-karras',
  'dpmpp-2m-sde',
  'dpmpp-singlestep',
  'deis',
  'unipc',
] as const satisfies SamplerName[];

/** What both draw; `arguments` are diffusers' own names. */
interface Request {
  name: string;
  family: 'sd15' | 'sdxl';
  model: 'model' | 'inpainting';
  controlnets: number;
  sampler?: SamplerName;
  image?: string;
  mask?: string;
  controls: string[];
  tiling: boolean;
  arguments: Record<string, unknown>;
  options: PromptOptions;
}

const common = {
  prompt: 'a red circle on a blue square',
  negativePrompt: 'green',
  seed: 7,
  steps: 6,
  guidanceScale: 5,
  scale: 0.8,
};

type Given = Partial<Omit<Request, 'name' | 'family'>>;

const size = { width: 64, height: 64 };

/** An image to start from, at its own size. */
const img2img = (strength: number): Given => ({
  image: '0.png',
  arguments: { strength },
  options: { strength },
});

/** A mask, resized with the image. */
const inpaint = (strength: number, model: Request['model'] = 'model'): Given => ({
  ...{ image: '0.png', mask: 'mask.png', model },
  arguments: { strength, ...size },
  options: { strength, ...size },
});

/** One ControlNet or two. */
const control = (scales: number[], ranges: [number, number][], guessMode = false): Given => {
  const one = <T>(values: T[]): T | T[] => (values.length === 1 ? (values[0] as T) : values);
  return {
    controlnets: scales.length,
    controls: ['1.png', '2.png'].slice(0, scales.length),
    arguments: {
      ...size,
      controlnet_conditioning_scale: one(scales),
      control_guidance_start: one(ranges.map(([start]) => start)),
      control_guidance_end: one(ranges.map(([, end]) => end)),
      guess_mode: guessMode,
    },
    options: { ...size, controlnetScale: scales, controlRange: ranges.flat(), guessMode },
  };
};

function both(a: Given, b: Given): Given {
  return {
    ...{ ...a, ...b },
    arguments: { ...a.arguments, ...b.arguments },
    options: { ...a.options, ...b.options },
  };
}

const tiled: Given = { tiling: true, options: { vaeTiling: true } };

const cases: Record<string, Given> = {
  img2img: img2img(0.6),
  ...Object.fromEntries(samplers.map((sampler) => [`img2img ${sampler}`, { ...img2img(0.6), sampler }])),
  'img2img, strength 1': img2img(1),
  'img2img in tiles': both(img2img(0.6), tiled),
  'text in tiles': both(
    { arguments: { width: 136, height: 96 }, options: { width: 136, height: 96 } },
    tiled,
  ),
  inpaint: inpaint(1),
  'inpaint, strength 0.6': inpaint(0.6),
  'inpaint euler-a': { ...inpaint(0.8), sampler: 'euler-a' },
  'inpaint heun': { ...inpaint(0.8), sampler: 'heun' },
  'inpaint dpmpp-2m-sde': { ...inpaint(0.8), sampler: 'dpmpp-2m-sde' },
  'inpaint, 9 channels': inpaint(1, 'inpainting'),
  'inpaint, 9 channels, strength 0.6': { ...inpaint(0.6, 'inpainting'), sampler: 'euler-a' },
  'inpaint, 9 channels, in tiles': both(
    {
      ...inpaint(0.8, 'inpainting'),
      arguments: { strength: 0.8, width: 80, height: 72 },
      options: { strength: 0.8 },
    },
    tiled,
  ),
  ControlNet: control([0.9], [[0, 1]]),
  'ControlNet, range': control([0.9], [[0.2, 0.7]]),
  'ControlNet dpmpp-2m-sde': { ...control([0.9], [[0, 1]]), sampler: 'dpmpp-2m-sde' },
  'ControlNet, guess mode': control([0.9], [[0, 1]], true),
  'two ControlNets': control(
    [0.9, 0.5],
    [
      [0, 1],
      [0, 0.5],
    ],
  ),
  'ControlNet, img2img': both(control([0.9], [[0, 1]]), { ...img2img(0.6) }),
  'ControlNet, img2img euler-a': { ...both(control([0.9], [[0, 0.7]]), img2img(0.8)), sampler: 'euler-a' },
  'ControlNet, inpaint': both(control([0.9], [[0, 1]]), inpaint(1)),
  'two ControlNets, inpaint euler-a': {
    ...both(
      control(
        [0.9, 0.5],
        [
          [0, 1],
          [0, 0.5],
        ],
      ),
      inpaint(0.7),
    ),
    sampler: 'euler-a',
  },
  'ControlNet, inpaint, 9 channels': both(control([0.9], [[0, 1]]), inpaint(0.8, 'inpainting')),
};

/** The pipelines of a family, by the files' names. */
export const pipelineNames = Object.keys(cases);

/** Draws all, and writes what diffusers is to draw: `pipelines.json`; the images are `<family>/pipelines/<name>.ours.png`. */
export async function drawPipelines(work: string, families: readonly Request['family'][]): Promise<void> {
  const mask =
    '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="90"><circle cx="60" cy="40" r="30" fill="#eee"/></svg>';
  const data = (name: string): string => join(work, 'data', name);
  await sharp(Buffer.from(mask)).flatten({ background: 'black' }).png().toFile(data('mask.png'));
  const requests = families.flatMap((family) =>
    Object.entries(cases).map(
      ([name, given]): Request => ({
        ...{
          name,
          family,
          model: 'model',
          controlnets: 0,
          controls: [],
          tiling: false,
          arguments: {},
          options: {},
        },
        ...given,
      }),
    ),
  );
  const described = requests.map(({ options, sampler, ...request }) => ({
    ...{ ...common, ...request },
    ...(sampler && { scheduler: diffusersScheduler(sampler) }),
  }));
  writeFileSync(join(work, 'pipelines.json'), JSON.stringify(described));
  for (const {
    name,
    family,
    model,
    controlnets,
    controls,
    sampler,
    image,
    mask: masked,
    options,
  } of requests) {
    const at = (...names: string[]): string => join(work, family, ...names);
    mkdirSync(at('pipelines'), { recursive: true });
    using pipeline = await IPAdapterPipeline.load({
      ...{ model: at(model), imageEncoder: at('image_encoder'), adapter: at('plus', 'adapter.safetensors') },
      ...{ device: 'cpu', threads: 1 },
      ...(controlnets > 0 && { controlnet: [0, 1].slice(0, controlnets).map((i) => at(`control-${i}`)) }),
    });
    const [drawn] = await pipeline.generate({
      ...{ ...common, images: [data('3.png')], ...options },
      ...(sampler && { scheduler: sampler }),
      ...(image && { initImage: data(image) }),
      ...(masked && { maskImage: data(masked) }),
      ...(controls.length > 0 && { controlImage: controls.map(data) }),
    });
    await drawn?.save(at('pipelines', `${name}.ours.png`));
  }
}
