/** Models and a single file of SDXL's published names, shapes and sizes, without weights. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { fullSizeKeys, readFullSizeKeys, shapesOf } from '../../test/full-size-keys.js';
import { ldmFile, ldmOpenCLIP, ldmUNet, xl } from '../../test/ldm-layout.js';
import { sparsePosition, writeSparse } from '../../test/model-files.js';
import { bigG, vitH } from '../../test/published-image-encoder.js';
import { parseCLIPTextConfig } from '../models/clip/clip-text-model.js';
import { CLIPTextModelWithProjection } from '../models/clip/clip-text-model-with-projection.js';
import { CLIPVisionModelWithProjection, parseCLIPVisionConfig } from '../models/clip/clip-vision-model.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../models/unet/unet-config.js';
import { AutoencoderKL, parseVAEConfig } from '../models/vae/autoencoder-kl.js';
import { loadTextEncoder, loadTextEncoderWithProjection, loadUNet, loadVAE } from './load.js';
import { sdxl } from './sdxl.js';
import { openSingleFile } from './single-file.js';

const root = mkdtempSync(join(tmpdir(), 'ip-adapter-full-size-xl-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

const vision = (config: object) =>
  new CLIPVisionModelWithProjection(parseCLIPVisionConfig(config, 'config.json'));

const models: [file: string, model: () => Parameters<typeof shapesOf>[0], config: object, count: number][] = [
  ['sdxl_unet.json.gz', () => new UNet2DConditionModel(parseUNetConfig(sdxl.unet, 'SDXL')), sdxl.unet, 1680],
  ['sdxl_vae.json', () => new AutoencoderKL(parseVAEConfig(sdxl.vae, 'SDXL')), sdxl.vae, 248],
  [
    'sdxl_text_encoder_2.json.gz',
    () => new CLIPTextModelWithProjection(parseCLIPTextConfig(sdxl.textEncoder2, 'SDXL'), 1280),
    sdxl.textEncoder2,
    517,
  ],
  ['image_encoder_bigG.json.gz', () => vision(bigG), bigG, 776],
  ['image_encoder_vit_h.json.gz', () => vision(vitH), vitH, 520],
];

describe.skipIf(fullSizeKeys === null)('models of published sizes (../shared/golden)', () => {
  it.each(models)('%s', (file, model, config, count) => {
    const recorded = readFullSizeKeys(file);
    const shapes = shapesOf(model());
    expect(shapes).toEqual(recorded.shapes);
    expect(Object.keys(shapes)).toHaveLength(count);
    // Token ids at the ends of a text concern the tokenizer.
    const { bos_token_id, pad_token_id, ...sizes } = recorded.config;
    expect(config).toMatchObject(sizes);
  });
});

describe('SDXL in one file', () => {
  const numel = (shapes: Iterable<readonly number[]>) =>
    [...shapes].reduce((sum, shape) => sum + shape.reduce((product, size) => product * size, 1), 0);

  it('has the published counts', () => {
    expect(ldmUNet(xl.unet).size).toBe(1680);
    expect(numel(ldmUNet(xl.unet).values())).toBe(2_567_463_684);
    // Without logit_scale.
    expect(numel(ldmOpenCLIP(xl.openCLIP as NonNullable<typeof xl.openCLIP>).values()) - 1).toBe(694_659_840);
  });

  it.each(['float32', 'float16'] as const)('becomes the four models, %s, without taking memory', (dtype) => {
    const shapes = ldmFile(xl);
    const path = join(root, `sd_xl_base_1.0_${dtype}.safetensors`);
    writeSparse(path, shapes, dtype);
    const initialMemory = process.memoryUsage().rss;
    const file = openSingleFile(path);
    const parts = [
      loadUNet(file),
      loadVAE(file),
      loadTextEncoder(file),
      loadTextEncoderWithProjection(file) as CLIPTextModelWithProjection,
    ];
    expect(process.memoryUsage().rss - initialMemory).toBeLessThan(500 << 20);
    expect(parts.map((part) => part.namedParameters().size)).toEqual([1680, 248, 196, 517]);
    expect(file.unused).toEqual(['denoiser.sigmas']);

    // In float16 the positions of tensors are told apart up to 2048 only.
    if (dtype === 'float16') return;
    const names = [...shapes.keys()];
    const origins = parts.flatMap((part) =>
      Array.from(part.namedParameters().values(), (tensor) => names[sparsePosition(tensor)] as string),
    );
    // Keys and values of in_proj do not start where their tensor does: they read a hole, 0.
    const used = origins.filter((name) => name !== names[0]);
    expect(origins.length - used.length).toBe(32 * 4);
    expect(used.sort()).toEqual(
      names
        .slice(1)
        .filter((name) => !/position_ids|logit_scale/.test(name))
        .sort(),
    );
  });
});
