/** Single files of SDXL give the models of the folder that they were made of. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { expectSameBytes, golden } from '../../test/golden.js';
import { ldmFile } from '../../test/ldm-layout.js';
import { configsOf, ldmTensors, writeLdmFile } from '../../test/ldm-writer.js';
import { CheckpointError } from '../base/errors.js';
import type { DType, Tensor } from '../torch/index.js';
import { loadTextEncoder, loadTextEncoderWithProjection, loadUNet, loadVAE } from './load.js';
import { openSingleFile } from './single-file.js';

const folder = golden('sdxl_base_models');
const root = mkdtempSync(join(tmpdir(), 'ip-adapter-xl-'));
afterAll(() => rmSync(root, { recursive: true, force: true }));

/** The sizes of the tiny SDXL. */
const tiny = {
  unet: {
    modelChannels: 8,
    channelMult: [1, 2, 3],
    resBlocks: 1,
    contextDim: 40,
    transformerDepth: [0, 1, 2],
    admChannels: 72,
  },
  vae: { ch: 8, chMult: [1, 2, 2, 2], resBlocks: 1 },
  text: { width: 16, layers: 3, vocab: 800 },
  openCLIP: { width: 24, layers: 3, vocab: 800 },
};

type Source = Parameters<typeof loadUNet>[0];
const models: [part: string, load: (source: Source) => { namedParameters(): Map<string, Tensor> } | null][] =
  [
    ['unet', (source) => loadUNet(source)],
    ['vae', (source) => loadVAE(source)],
    ['text_encoder', (source) => loadTextEncoder(source)],
    ['text_encoder_2', (source) => loadTextEncoderWithProjection(source)],
  ];

describe.skipIf(folder === null)('a file of SDXL (../shared/golden)', () => {
  const tiny32 = () => ldmTensors(folder as string);
  const write = (name: string, tensors: ReadonlyMap<string, Tensor>) => {
    writeLdmFile(join(root, name), tensors);
    return openSingleFile(join(root, name), configsOf(folder as string));
  };

  it('has the names and shapes of the original code', () => {
    const written = new Map([...tiny32()].map(([key, { shape }]) => [key, [...shape]]));
    const expected = ldmFile(tiny);
    // Only files of transformers before 4.31 have it.
    expected.delete('conditioner.embedders.0.transformer.text_model.embeddings.position_ids');
    expect(Object.fromEntries(written)).toEqual(Object.fromEntries(expected));
  });

  const forms: [string, DType][] = [
    ['model.safetensors', 'float32'],
    ['model.ckpt', 'float32'],
    ['model_fp16.safetensors', 'float16'],
    ['model_fp16.ckpt', 'float16'],
  ];
  it.each(forms)('%s gives the tensors of the folder', (name, dtype) => {
    const stored = new Map([...tiny32()].map(([key, tensor]) => [key, tensor.to(dtype)]));
    const file = write(name, stored);
    expect(file.unused).toEqual(['denoiser.sigmas']);
    for (const [part, load] of models) {
      const expected = load(join(folder as string, part))?.namedParameters() as Map<string, Tensor>;
      const actual = load(file)?.namedParameters() as Map<string, Tensor>;
      expect([...actual.keys()]).toEqual([...expected.keys()]);
      for (const [key, tensor] of expected)
        expectSameBytes((actual.get(key) as Tensor).contiguous(), tensor.to(dtype).contiguous());
    }
  });

  it('says what it was trained to predict', () => {
    const predictionOf = (...markers: string[]) =>
      write('marked.safetensors', ldmTensors(folder as string, markers)).prediction;
    expect(predictionOf()).toEqual({ isVelocity: false, hasZeroTerminalSnr: false });
    expect(predictionOf('v_pred')).toEqual({ isVelocity: true, hasZeroTerminalSnr: false });
    expect(predictionOf('v_pred', 'ztsnr')).toEqual({ isVelocity: true, hasZeroTerminalSnr: true });
    // Without v_pred it says nothing, as in ComfyUI.
    expect(predictionOf('ztsnr')).toEqual({ isVelocity: false, hasZeroTerminalSnr: false });
  });

  it('may have the projection in the layout of transformers', () => {
    const tensors = tiny32();
    const prefix = 'conditioner.embedders.1.model.text_projection';
    const projection = tensors.get(prefix) as Tensor;
    tensors.delete(prefix);
    tensors.set(`${prefix}.weight`, projection.transpose(0, 1).contiguous());
    const model = loadTextEncoderWithProjection(write('other.safetensors', tensors));
    expectSameBytes(model?.text_projection.weight as Tensor, projection.transpose(0, 1).contiguous());
  });

  it.each([
    ['attn.in_proj_weight', [71, 24], /missing \(3\): .*k_proj.*\n.*unexpected \(1\): .*in_proj_weight/s],
    ['attn.in_proj_bias', [69], /v_proj\.bias/],
    ['mlp.c_fc.weight', [24, 24], /fc1\.weight/],
  ])('names a tensor of a wrong shape: %s', (name, shape, message) => {
    const key = `conditioner.embedders.1.model.transformer.resblocks.1.${name}`;
    const tensors = tiny32();
    const wrong = (tensors.get(key) as Tensor).flatten().slice(
      0,
      0,
      shape.reduce((a, b) => a * b, 1),
    );
    const file = write('wrong.safetensors', tensors.set(key, wrong.reshape(...shape)));
    expect(() => loadTextEncoderWithProjection(file)).toThrow(CheckpointError);
    const again = openSingleFile(join(root, 'wrong.safetensors'), configsOf(folder as string));
    expect(() => loadTextEncoderWithProjection(again)).toThrow(message);
  });
});
