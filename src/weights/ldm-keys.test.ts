import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { golden, modelCases } from '../../test/golden.js';
import { ldmFile, ldmText, ldmUNet, ldmVAE, v1 } from '../../test/ldm-layout.js';
import { UNet2DConditionModel } from '../models/unet/unet-2d-condition.js';
import { parseUNetConfig } from '../models/unet/unet-config.js';
import { AutoencoderKL, parseVAEConfig } from '../models/vae/autoencoder-kl.js';
import { ldmUNetKeys, ldmVAEKeys } from './ldm-keys.js';
import { loadUNet, loadVAE } from './load.js';
import { sd15 } from './sd15.js';

const recorded: Record<string, Record<string, string>> = JSON.parse(
  readFileSync(golden('ldm/diffusers_keys.json') as string, 'utf8'),
);
const folder = (prefix: string) => modelCases(prefix)[0]?.folder as string;
const numel = (shapes: Map<string, number[]>) =>
  [...shapes.values()].reduce((sum, shape) => sum + shape.reduce((product, size) => product * size, 1), 0);

describe('the LDM names are those that diffusers converts', () => {
  it.each([
    ['v1', () => new UNet2DConditionModel(parseUNetConfig(sd15.unet, 'SD 1.5'))],
    ['tiny', () => loadUNet(folder('unet'))],
  ])('UNet, %s', (name, model) => {
    const unet = model();
    const keys = ldmUNetKeys(unet.namedParameters().keys(), unet.config);
    expect(Object.fromEntries(keys)).toEqual(recorded[`${name}_unet`]);
  });

  it.each([
    ['v1', () => new AutoencoderKL(parseVAEConfig(sd15.vae, 'SD 1.5'))],
    ['tiny', () => loadVAE(folder('vae'))],
  ])('autoencoder, %s', (name, model) => {
    const vae = model();
    const keys = ldmVAEKeys(vae.namedParameters().keys(), vae.config);
    expect(Object.fromEntries(keys)).toEqual(recorded[`${name}_vae`]);
  });
});

describe('the files that the tests write', () => {
  it('have the counts of the published file', () => {
    expect([ldmUNet(v1.unet).size, ldmVAE(v1.vae).size, ldmText(v1.text).size]).toEqual([686, 248, 197]);
    // v1-5-pruned-emaonly has 1131 tensors of models, including position_ids, and 12 of the noise schedule.
    expect(ldmFile(v1).size).toBe(1131 + 12);
    expect([numel(ldmUNet(v1.unet)), numel(ldmVAE(v1.vae)), numel(ldmText(v1.text)) - 77]).toEqual([
      859_520_964, 83_653_863, 123_060_480,
    ]);
  });
});
