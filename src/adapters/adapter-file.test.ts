import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { expectSameBytes, golden } from '../../test/golden.js';
import { CheckpointError } from '../base/errors.js';
import { readSafetensors, writeSafetensors } from '../formats/index.js';
import { type Tensor, zeros } from '../torch/index.js';
import { readAdapter, trainedWith, writeAdapter } from './adapter-file.js';
import { type AdapterDescription, describeAdapter } from './kinds.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-files-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const final = golden('train/final.safetensors') as string;
function file(shapes: Record<string, number[]>): string {
  const path = join(folder, 'adapter.safetensors');
  writeSafetensors(path, new Map(Object.entries(shapes).map(([key, shape]) => [key, zeros(shape)])));
  return path;
}

describe('adapter files', () => {
  it('the .bin that torch.save wrote holds what the .safetensors does', () => {
    const bin = readAdapter(golden('train/ip_adapter.bin') as string);
    const { tensors } = readSafetensors(final);
    expect([...bin.keys()].sort()).toEqual([...tensors.keys()].sort());
    for (const [key, value] of tensors) expectSameBytes(bin.get(key) as Tensor, value);
  });

  it.each(['adapter.bin', 'adapter.safetensors'])('%s reads back as it was written', (name) => {
    const { tensors } = readSafetensors(final);
    writeAdapter(join(folder, name), tensors);
    const read = readAdapter(join(folder, name));
    expect(new Set(read.keys())).toEqual(new Set(tensors.keys()));
    for (const [key, value] of tensors) expectSameBytes(read.get(key) as Tensor, value);
  });

  it('says in the metadata what the file is, and marks it as of PyTorch', () => {
    const path = file({
      'image_proj.proj.weight': [3072, 1024],
      'image_proj.norm.weight': [768],
      'ip_adapter.1.to_k_ip.weight': [320, 768],
    });
    writeAdapter(path, readAdapter(path));
    expect(readSafetensors(path).metadata).toEqual({
      format: 'pt',
      'modelspec.sai_model_spec': '1.0.0',
      'modelspec.architecture': 'stable-diffusion-v1/ip-adapter',
      'modelspec.implementation': 'https://github.com/tencent-ailab/IP-Adapter',
      'modelspec.title': 'IP-Adapter (base) for Stable Diffusion 1.x',
      'ip_adapter.version': expect.stringMatching(/^\d+\.\d+\.\d+/),
      'ip_adapter.kind': 'base',
      'ip_adapter.num_tokens': '4',
      'ip_adapter.image_encoder_width': '1024',
      'ip_adapter.cross_attention_dim': '768',
      'ip_adapter.family': 'Stable Diffusion 1.x',
    });
  });

  it('keeps what it was trained with, where that is known and the form has a place', () => {
    const { tensors } = readSafetensors(final);
    const [known, unknown, bin] = ['a.safetensors', 'b.safetensors', 'c.bin'].map((name) =>
      join(folder, name),
    );
    writeAdapter(known as string, tensors, { clipSkip: 2, imageEncoder: 'dinov2' });
    writeAdapter(unknown as string, tensors);
    writeAdapter(bin as string, tensors, { clipSkip: 2, imageEncoder: 'dinov2' });
    expect([known, unknown, bin].map((path) => trainedWith(path as string))).toEqual([
      { clipSkip: 2, imageEncoder: 'dinov2' },
      { clipSkip: undefined, imageEncoder: undefined },
      {},
    ]);
  });

  it('says what is in a file that is no adapter', () => {
    expect(() => readAdapter(file({ 'unet.conv_in.weight': [1] }))).toThrow(
      /Expected an IP-Adapter .* keys are unet.conv_in.weight/,
    );
    writeFileSync(join(folder, 'broken.bin'), 'PK not a zip');
    expect(() => readAdapter(join(folder, 'broken.bin'))).toThrow(CheckpointError);
  });

  it.each([
    [
      'IP-Adapter Plus',
      {
        'image_proj.latents': [1, 16, 768],
        'image_proj.proj_in.weight': [768, 1280],
        'image_proj.proj_out.weight': [768, 768],
      },
      [16, 1280, 768],
    ],
    [
      'IP-Adapter (base)',
      { 'image_proj.proj.weight': [3072, 1024], 'image_proj.norm.weight': [768] },
      [4, 1024, 768],
    ],
    [
      'IP-Adapter FaceID',
      {
        'image_proj.proj.0.weight': [1024, 512],
        'image_proj.proj.2.weight': [3072, 1024],
        'image_proj.norm.weight': [768],
      },
      [4, 512, 768],
    ],
    [
      'IP-Adapter Full Face',
      {
        'image_proj.proj.0.weight': [1280, 1280],
        'image_proj.proj.2.weight': [768, 1280],
        'image_proj.proj.3.weight': [768],
      },
      [undefined, 1280, 768],
    ],
    [
      'IP-Adapter FaceID Plus',
      { 'image_proj.perceiver_resampler.proj_in.weight': [768, 1280] },
      [undefined, undefined, undefined],
    ],
  ])('knows a file of %s', (title, shapes, numbers) => {
    const tensors = readAdapter(file({ ...shapes, 'ip_adapter.1.to_k_ip.weight': [320, 768] }));
    const { kind, sizes, layers } = describeAdapter(tensors) as AdapterDescription;
    expect(kind.title).toBe(title);
    expect([sizes.numTokens, sizes.embeddingDim, sizes.crossAttentionDim]).toEqual(numbers);
    expect(layers).toEqual([1]);
  });
});
