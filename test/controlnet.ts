/** @file Writes ControlNets and UNets for inpainting that belong to a UNet, with random weights, for tests. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors } from '../src/formats/index.js';
import { parseControlNetConfig } from '../src/models/controlnet/controlnet-config.js';
import { ControlNetModel } from '../src/models/controlnet/controlnet-model.js';
import { cat, Generator, randn, type Tensor } from '../src/torch/index.js';
import { readJson, weightsOf, writeJson } from './model-files.js';

const weights = 'diffusion_pytorch_model';

/** Its first half is the UNet's, as at the start of training; the rest is random, so that it acts. */
export function writeControlNet(folder: string, unetFolder: string, seed: number): void {
  const { up_block_types, sample_size, out_channels, conv_in_kernel, conv_out_kernel, ...json } = readJson(
    join(unetFolder, 'config.json'),
  );
  const config = {
    ...json,
    _class_name: 'ControlNetModel',
    conditioning_embedding_out_channels: [4, 8, 8, 16],
  };
  const model = new ControlNetModel(parseControlNetConfig(config, folder));
  const generator = new Generator('cpu', seed);
  const unet = weightsOf(unetFolder, weights);
  const tensors = Array.from(model.namedParameters(), ([key, { shape }]): [string, Tensor] => [
    key,
    unet.get(key) ?? randn(shape, { generator }).mul(0.3),
  ]);
  mkdirSync(folder, { recursive: true });
  writeJson(join(folder, 'config.json'), config);
  writeSafetensors(join(folder, `${weights}.safetensors`), new Map(tensors));
}

/** Makes a UNet's folder one for inpainting: 9 channels, of which the last five are random. */
export function makeInpaintingUNet(folder: string): void {
  const tensors = weightsOf(folder, weights);
  const first = tensors.get('conv_in.weight') as Tensor;
  const [channels = 0, , height = 0, width = 0] = first.shape;
  const more = randn([channels, 5, height, width], { generator: new Generator('cpu', 9) }).mul(0.3);
  const widened = new Map([...tensors].map(([key, tensor]): [string, Tensor] => [key, tensor.clone()]));
  widened.set('conv_in.weight', cat([first, more], 1));
  writeSafetensors(join(folder, `${weights}.safetensors`), widened);
  writeJson(join(folder, 'config.json'), { ...readJson(join(folder, 'config.json')), in_channels: 9 });
}
