/** Adapters of the published kinds at full size have the keys and shapes of the published files, without weights. */
import { describe, expect, it } from 'vitest';
import { fullSizeKeys, readFullSizeKeys, shapesOf } from '../../test/full-size-keys.js';
import { bigG, vitH } from '../../test/published-image-encoder.js';
import { sd15, sdxl } from '../../test/published-unets.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../models/unet/unet-config.js';
import { IPAdapter } from './ip-adapter.js';
import type { AdapterKind, SupportedKind } from './kind.js';
import { describeAdapter, kinds } from './kinds.js';
import { contextDimOf } from './open-adapter.js';

const sitesOf = (unet: object) => new UNet2DConditionModel(parseUNetConfig(unet, 'config.json')).sites();

const published: [file: string, kind: AdapterKind['name'], unet: object, encoder: typeof vitH][] = [
  ['ip-adapter_sd15', 'base', sd15, vitH],
  ['ip-adapter-full-face_sd15', 'full-face', sd15, vitH],
  ['ip-adapter_sdxl', 'base', sdxl, bigG],
  ['ip-adapter_sdxl_vit-h', 'base', sdxl, vitH],
  ['ip-adapter-plus_sdxl_vit-h', 'plus', sdxl, vitH],
  ['ip-adapter-plus-face_sdxl_vit-h', 'plus', sdxl, vitH],
];

/** Returns a new adapter of a kind for full-size models. */
function adapterFor(name: AdapterKind['name'], unet: object, encoder: typeof vitH): IPAdapter {
  const kind = kinds.find((one) => one.name === name) as SupportedKind;
  const sites = sitesOf(unet);
  const widths = { tokens: encoder.hidden_size, pooled: encoder.projection_dim };
  const projection = kind.projection.create({
    embeddingDim: widths[kind.feature],
    crossAttentionDim: contextDimOf(sites),
    numTokens: kind.projection.defaultTokens ?? 0,
  });
  return new IPAdapter(sites, projection);
}

describe.skipIf(fullSizeKeys === null)('a new adapter has the keys and shapes of (../shared/golden)', () => {
  it.each(published)('%s, which is recognised as %s', (file, kind, unet, encoder) => {
    const { shapes } = readFullSizeKeys(`${file}.json`);
    const adapter = adapterFor(kind, unet, encoder);
    expect(shapesOf(adapter)).toEqual(shapes);
    expect(describeAdapter(adapter.namedParameters())?.kind.name).toBe(kind);
  });
});

it('SDXL Plus has 423,748,864 trained parameters', () => {
  const parameters = adapterFor('plus', sdxl, vitH).parameters();
  expect(parameters.reduce((sum, { numel }) => sum + numel, 0)).toBe(423_748_864);
});
