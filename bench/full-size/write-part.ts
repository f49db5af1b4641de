/** @file Writes a part of a model at full size as a folder: random weights, or zeros that take no disk. */
import { closeSync, existsSync, ftruncateSync, openSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../../src/base/make-folder.js';
import { writeSafetensors } from '../../src/formats/index.js';
import { initParameters } from '../../src/nn/init.js';
import type { Module } from '../../src/nn/module.js';
import { Generator, noGrad, type Tensor } from '../../src/torch/index.js';

/** Writes `folder/file` with a config.json, unless it exists. */
export type WritePart = (
  folder: string,
  file: string,
  config: object,
  create: () => Module<never[], unknown>,
) => void;

export const writeRandom: WritePart = (folder, file, config, create) => {
  writePart(folder, file, config, () => {
    using model = create();
    initParameters(model, new Generator('cpu', 0));
    using _ = noGrad();
    writeSafetensors(join(folder, file), model.namedParameters(), { format: 'pt' });
  });
};

/** Weights of 0, a hole in the file: memory and time of a step do not depend on their values. */
export const writeZeros: WritePart = (folder, file, config, create) => {
  writePart(folder, file, config, () => {
    using model = create();
    writeZeroTensors(join(folder, file), model.namedParameters());
  });
};

export function writeZeroTensors(file: string, tensors: Iterable<readonly [string, Tensor]>): void {
  const entries: Record<string, object> = {};
  let end = 0;
  for (const [name, { shape, bytes }] of tensors) {
    entries[name] = { dtype: 'F32', shape, data_offsets: [end, end + bytes] };
    end += bytes;
  }
  const header = Buffer.from(JSON.stringify(entries));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  const descriptor = openSync(file, 'w');
  writeSync(descriptor, Buffer.concat([length, header]));
  ftruncateSync(descriptor, 8 + header.length + end);
  closeSync(descriptor);
}

function writePart(folder: string, file: string, config: object, writeWeights: () => void): void {
  if (existsSync(join(folder, file))) return;
  makeFolder(folder);
  writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
  writeWeights();
}
