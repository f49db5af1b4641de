/** @file The small world with an adapter for it, in every form that adapters come in. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeAdapter } from '../../src/adapters/adapter-file.js';
import { adapterFile } from '../../src/adapters/adapter-path.js';
import { ImageProjModel } from '../../src/adapters/base.js';
import { IPAdapter } from '../../src/adapters/ip-adapter.js';
import { Resampler } from '../../src/adapters/resampler.js';
import { Generator, noGrad } from '../../src/torch/index.js';
import { loadUNet } from '../../src/weights/load.js';
import { makeWorld, type World } from './world.js';

export interface Adapted extends World {
  model: string;
  imageEncoder: string;
  /** The same adapter as .safetensors, as .bin, and in a checkpoint folder. */
  adapter: string;
  bin: string;
  checkpoint: string;
  /** Another, without a Resampler. */
  base: string;
  /** The i-th picture's file. */
  picture(i: number): string;
  /** The flags of `generate` for a small image with the .bin adapter. */
  generateFlags: string[];
}

/** The adapter is new, and made to count so much that pictures tell whether it acts. */
export async function makeAdaptedWorld(): Promise<Adapted> {
  const world = await makeWorld();
  const at = (...parts: string[]): string => join(world.root, ...parts);
  const sizes = {
    dim: 32,
    depth: 4,
    dimHead: 64,
    heads: 12,
    numQueries: 16,
    embeddingDim: 48,
    outputDim: 32,
    ffMult: 4,
  };
  const adapter = new IPAdapter(loadUNet(at('model', 'unet')).sites(), new Resampler(sizes)).init(
    new Generator('cpu', 0),
  );
  using _ = noGrad();
  for (const processor of adapter.ip_adapter) processor?.to_v_ip.weight.mul_(8);
  mkdirSync(at('checkpoint-1'));
  const files = [at('adapter.safetensors'), at('adapter.bin'), at('checkpoint-1', adapterFile)];
  for (const file of files) writeAdapter(file, adapter.namedParameters());
  const base = new IPAdapter(
    loadUNet(at('model', 'unet')).sites(),
    new ImageProjModel({ embeddingDim: 40, numTokens: 4, crossAttentionDim: 32 }),
  ).init(new Generator('cpu', 1));
  for (const processor of base.ip_adapter) processor?.to_v_ip.weight.mul_(8);
  writeAdapter(at('base.safetensors'), base.namedParameters());
  return {
    ...world,
    model: at('model'),
    imageEncoder: at('image_encoder'),
    adapter: at('adapter.safetensors'),
    bin: at('adapter.bin'),
    checkpoint: at('checkpoint-1'),
    base: at('base.safetensors'),
    picture: (i) => at('images', `${i}.png`),
    generateFlags: [
      ...['--model', at('model'), '--image_encoder', at('image_encoder'), '--adapter', at('adapter.bin')],
      ...['--steps', '2', '--width', '64', '--height', '64'],
    ],
  };
}
