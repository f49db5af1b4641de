import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { expectSameBytes, golden } from '../../test/golden.js';
import { readSafetensors } from '../formats/index.js';
import { type Tensor, zeros } from '../torch/index.js';
import { readAdapter, writeAdapter } from './adapter-file.js';
import { adapterFileOf } from './adapter-path.js';
import { adapterOfCheckpoint } from './training-checkpoint.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-files-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string): string => golden(`accelerate/${name}`) as string;
const bin = at('sd15/pytorch_model.bin');

function expectSameTensors(received: ReadonlyMap<string, Tensor>, name: string): void {
  const { tensors } = readSafetensors(at(`${name}.adapter.safetensors`));
  expect([...received.keys()].sort()).toEqual([...tensors.keys()].sort());
  for (const [key, value] of tensors) expectSameBytes(received.get(key) as Tensor, value);
}

describe('checkpoints that accelerate wrote for the original', () => {
  it.each([
    ['sd15', 'model.safetensors', 'without adapter_modules'],
    ['sd15', 'pytorch_model.bin', 'with adapter_modules'],
    ['sdxl', 'model.safetensors', 'without adapter_modules'],
    ['sd15_ddp', 'model.safetensors', 'with module. before each key'],
  ])('%s/%s, %s, holds the adapter', (name, file) => {
    expectSameTensors(readAdapter(join(at(name), file)), name);
  });

  it.each(['sd15', 'sdxl'])('the folder %s stands for its file, and its adapter can be exported', (name) => {
    const tensors = readAdapter(adapterFileOf(at(name)));
    for (const target of ['adapter.safetensors', 'adapter.bin']) {
      writeAdapter(join(folder, target), tensors);
      expectSameTensors(readAdapter(join(folder, target)), name);
    }
  });

  it('orders layers down, up, mid, by their numbers, self-attention counted', () => {
    const block = (name: string, index: number): string =>
      `unet.${name}.attentions.0.transformer_blocks.${index}`;
    const names = ['down_blocks.1', 'mid_block', 'up_blocks.0'].flatMap((name) =>
      Array.from({ length: 12 }, (_, index) => block(name, index)),
    );
    const tensors = new Map([['module.image_proj_model.latents', zeros([1])]]);
    for (const name of names.sort()) {
      tensors.set(`module.${name}.attn1.to_q.weight`, zeros([1]));
      tensors.set(`module.${name}.attn2.processor.to_k_ip.weight`, zeros([1]));
    }
    const adapter = adapterOfCheckpoint(tensors) as Map<string, Tensor>;
    const keyOf = (name: string): string | undefined =>
      [...adapter].find(
        ([, value]) => value === tensors.get(`module.${name}.attn2.processor.to_k_ip.weight`),
      )?.[0];
    expect(keyOf(block('down_blocks.1', 2))).toBe('ip_adapter.5.to_k_ip.weight');
    expect(keyOf(block('down_blocks.1', 11))).toBe('ip_adapter.23.to_k_ip.weight');
    expect(keyOf(block('up_blocks.0', 0))).toBe('ip_adapter.25.to_k_ip.weight');
    expect(keyOf(block('mid_block', 0))).toBe('ip_adapter.49.to_k_ip.weight');
    expect([...adapter.keys()].slice(0, 3)).toEqual([
      'image_proj.latents',
      'ip_adapter.1.to_k_ip.weight',
      'ip_adapter.3.to_k_ip.weight',
    ]);
  });

  it('reads only what it needs of a .bin: damage in the frozen UNet is not seen, damage in the adapter is', () => {
    const damaged = (key: string): string => {
      const bytes = readFileSync(bin);
      const value = readSafetensors(at('sd15/model.safetensors')).tensors.get(key) as Tensor;
      const place = bytes.indexOf(value.toBytes());
      expect(place).toBeGreaterThan(0);
      bytes[place] = (bytes[place] as number) ^ 1;
      const file = join(folder, 'pytorch_model.bin');
      writeFileSync(file, bytes);
      return file;
    };
    expectSameTensors(readAdapter(damaged('unet.conv_in.weight')), 'sd15');
    expect(() => readAdapter(damaged('image_proj_model.proj_in.weight'))).toThrow(/checksum/);
  });
});
