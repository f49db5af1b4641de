/** @file Our side of references: settings that a peer has too, what they add at every site, and what images they give. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promptAddition, sideTokens } from '../../src/adapters/image-prompt.js';
import type { Conditioning } from '../../src/diffusion/conditioning.js';
import { readSafetensors, writeSafetensors } from '../../src/formats/index.js';
import { makePrompts } from '../../src/generation/conditions.js';
import { loadPipelineModels } from '../../src/generation/pipeline-models.js';
import { embed, encodePng, IPAdapterPipeline } from '../../src/index.js';
import type { SiteAddition } from '../../src/models/layers/attention-site.js';
import { combineModes, embedsScalings, weightTypes } from '../../src/options/reference-options.js';
import type { ReferenceImages, ReferenceSettings } from '../../src/options/reference-types.js';
import { cat, noGrad, type Tensor, tensor, tidy, zipTensors } from '../../src/torch/index.js';
import type { Case } from './ours.js';

/** Images are named in `files`. */
export interface Variant extends Omit<ReferenceSettings, 'negativeImage'> {
  name: string;
  peer: 'comfyui' | 'diffusers';
  images: string[];
  weights?: ReferenceImages['weights'];
  negativeImage?: string;
  /** Whether diffusers writes a file of embeddings for us, and reads ours. */
  embeds?: boolean;
}

const request = {
  prompt: 'a red circle on a blue square',
  negativePrompt: 'green',
  seed: 5,
  steps: 5,
  guidanceScale: 5,
  width: 64,
  height: 96,
};

const one = ['a'];
const two = ['a', 'b'];
const comfyui = (name: string, settings: Partial<Variant>): Variant => ({
  ...{ name, peer: 'comfyui', images: one, scale: 0.8 },
  ...settings,
});
// The preset is ours, and the default is what the others are held against; token averages have no peer.
const types = weightTypes.filter((type) => type !== 'style');
const scalings = embedsScalings.filter((scaling) => scaling !== 'v-only');
const modes = combineModes.filter((mode) => mode !== 'token-average');

/** What ComfyUI's nodes do to a Plus. */
const plusByComfyUI: Variant[] = [
  ...types.map((weightType) => comfyui(weightType, { weightType })),
  // A wider factor: the C penalty of these narrow layers is about 1/40.
  ...scalings.map((embedsScaling) =>
    comfyui(embedsScaling, { embedsScaling, scale: embedsScaling === 'k+v' ? 0.8 : 30 }),
  ),
  comfyui('precise-k+v', { weightType: 'style-transfer-precise', embedsScaling: 'k+v' }),
  comfyui('style-boost', { weightType: 'style-transfer-precise', compositionScale: 1.3 }),
  comfyui('composition-boost', { weightType: 'composition-precise', styleScale: 1.3 }),
  comfyui('layer-weights', { blockScales: { 0: 0.5, 3: 1, 6: 2 } }),
  ...modes.map((combine) => comfyui(combine, { combine, images: two })),
  comfyui('encoder-weights', { combine: 'average', images: two, weights: [1, 0.3] }),
  comfyui('mask', { masks: ['soft'], maskFit: 'comfyui' }),
  comfyui('negative-image', { negativeImage: 'b' }),
  comfyui('negative-images', { negativeImage: 'b', images: two }),
  comfyui('noise', { negativeNoise: 'fade', noiseStrength: 0.7 }),
  comfyui('null-black', { nullImage: 'black' }),
  comfyui('range', { range: [0.2, 0.7] }),
];
const sdxlByComfyUI: Variant[] = [
  comfyui('composition-image', {
    weightType: 'style-and-composition',
    compositionImages: ['b'],
    compositionScale: 1.2,
  }),
];
const baseByComfyUI: Variant[] = [
  ...modes.map((combine) => comfyui(combine, { combine, images: two })),
  comfyui('negative-image', { negativeImage: 'b' }),
];

const diffusers = (name: string, settings: Partial<Variant>): Variant => ({
  ...{ name, peer: 'diffusers', images: two, scale: 0.8 },
  ...settings,
});
const byDiffusers: Variant[] = [
  diffusers('several', {}),
  diffusers('masks', { masks: ['left', 'right'], maskFit: 'diffusers', weights: [1, 0.5] }),
  diffusers('embeds', { embeds: true }),
];
const byBlock: Record<Case['family'], Variant> = {
  sd15: diffusers('by-block', {
    blockScales: { down: { block_2: [0, 1] }, up: { block_1: 0.7, block_2: [0.2, 0.4, 0.6] }, mid: 0.5 },
    scale: 1,
  }),
  sdxl: diffusers('by-block', {
    blockScales: { down: { block_2: [0, 1] }, up: { block_0: [0, 1, 0] } },
    scale: 1,
  }),
};

/** Returns the settings that are compared for a case. */
export function variantsOf({ family, kind }: Case): Variant[] {
  // ComfyUI refuses the one for SDXL.
  if (kind === 'full-face') return family === 'sd15' ? baseByComfyUI : [];
  if (kind === 'base') return [...baseByComfyUI, ...byDiffusers];
  return [...plusByComfyUI, ...(family === 'sdxl' ? sdxlByComfyUI : []), ...byDiffusers, byBlock[family]];
}

/** Writes images and masks, and `references.json`, which tells the peers what to do. */
export async function writeReferences(work: string, cases: readonly Case[]): Promise<Record<string, string>> {
  const folder = join(work, 'masks');
  mkdirSync(folder, { recursive: true });
  const { width, height } = request;
  const values: Record<string, (x: number, y: number) => number> = {
    left: (x) => (x < width / 2 ? 255 : 0),
    right: (x) => (x < width / 2 ? 0 : 255),
    soft: (x, y) => Math.round((255 * (x + y)) / (width + height)),
  };
  const files: Record<string, string> = { a: join(work, 'data/0.png'), b: join(work, 'data/1.png') };
  for (const [name, value] of Object.entries(values)) {
    const data = Uint8Array.from({ length: width * height * 3 }, (_, i) => {
      const pixel = Math.floor(i / 3);
      return value(pixel % width, Math.floor(pixel / width));
    });
    files[name] = join(folder, `${name}.png`);
    writeFileSync(files[name], await encodePng({ data, width, height }));
  }
  const told = cases.map((one) => ({ ...one, variants: variantsOf(one) }));
  writeFileSync(join(work, 'references.json'), JSON.stringify({ ...request, files, cases: told }));
  return files;
}

type Options = ReferenceSettings & ReferenceImages;

/** Returns a variant as the options of our pipeline. */
function optionsOf(
  { name: _, peer: __, embeds: ___, ...settings }: Variant,
  files: Record<string, string>,
): Options {
  const named = (names: readonly string[]): string[] => names.map((name) => files[name] as string);
  return {
    ...settings,
    images: named(settings.images),
    negativeImage: settings.negativeImage && files[settings.negativeImage],
    ...(settings.masks && { masks: named(settings.masks as string[]) }),
    ...(settings.compositionImages && {
      compositionImages: named(settings.compositionImages as string[]),
    }),
  };
}

/** Draws an image of each variant, and writes what it adds at every site in one call of the UNet. */
export async function runReferences(work: string, one: Case, files: Record<string, string>): Promise<void> {
  const folder = join(work, one.family, one.kind);
  const at = (name: string): string => join(folder, name);
  const paths = {
    model: join(work, one.family, 'model'),
    adapters: [{ adapter: at('adapter.safetensors'), imageEncoder: join(work, one.family, 'image_encoder') }],
    device: 'cpu',
  };
  await embed({
    images: [files.a as string, files.b as string],
    imageEncoder: paths.adapters[0]?.imageEncoder as string,
    format: 'diffusers',
    kind: one.kind,
    out: at('written.ipadpt'),
  });
  const io = readSafetensors(join(work, one.family, 'io.safetensors')).tensors;
  using models = loadPipelineModels(paths);
  using pipeline = await IPAdapterPipeline.load(paths);
  for (const variant of variantsOf(one)) {
    const options = optionsOf(variant, files);
    const { width, height, ...drawing } = request;
    const [image] = await pipeline.generate({ ...drawing, width, height, ...options });
    await image?.save(at(`${variant.name}.${variant.peer}.ours.png`));
    if (variant.peer === 'diffusers') continue;
    const { images = [], weights = [], ...settings } = options;
    const job = {
      prompt: '',
      seed: 0,
      imagePrompts: [images.map((file, i) => ({ image: file, weight: weights[i] ?? 1 }))],
    };
    const size = { width: 64, height: 64 };
    const encoding = { ...size, imageFit: 'crop', clipSkip: 0 } as const;
    const prompts = await makePrompts(models, [job], encoding, [settings]);
    using _ = noGrad();
    tidy(() => {
      // The unconditional row first.
      const rows = tensor([1, 0], [2], 'int64');
      const row = (name: string): Tensor => (io.get(name) as Tensor).indexSelect(0, rows);
      const conditioning: Conditioning = {
        text: row('text'),
        ...(io.has('pooled') && { pooled: row('pooled'), timeIds: row('time_ids') }),
      };
      const added = new Map<string, { values: number[]; shape: readonly number[] }>();
      const additions = prompts.images.map((image): SiteAddition => {
        const { negative, positive } = sideTokens(image);
        const inner = promptAddition(
          image,
          zipTensors([negative, positive], (pair) => cat(pair)),
        );
        return {
          at(call) {
            const found = inner.at(call);
            // Numbers, since the tensors end with the layer's scope.
            if (found !== null)
              added.set(call.site.name, {
                values: found.hidden.mul(found.weight).toNumbers(),
                shape: found.hidden.shape,
              });
            return found;
          },
        };
      });
      const [noisy, timestep] = [row('noisy'), tensor([500], [1], 'int64')];
      models.backbone.predict(noisy, timestep, conditioning, { additions });
      const written = Array.from(added, ([name, { values, shape }]): [string, Tensor] => [
        name,
        tensor(values, shape),
      ]);
      writeSafetensors(at(`${variant.name}.ours.safetensors`), new Map(written));
      const inputs = {
        noisy,
        timestep,
        text: conditioning.text,
        ...(conditioning.pooled && { pooled: conditioning.pooled, time_ids: conditioning.timeIds }),
      };
      writeSafetensors(
        at('references.safetensors'),
        new Map(
          Object.entries(inputs as Record<string, Tensor>).map(([key, value]) => [key, value.contiguous()]),
        ),
      );
    });
  }
}
