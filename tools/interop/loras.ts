/** @file LoRAs that lora.py has made, merged by us, beside what diffusers and PEFT have merged. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { openLoras, withLoras } from '../../src/diffusion/loras.js';
import { openModelParts } from '../../src/diffusion/model-parts.js';
import { readSafetensors } from '../../src/formats/index.js';
import type { Tensor } from '../../src/torch/index.js';
import { maxError } from './compare.js';

const target = { device: 'cpu', dtype: 'float32' } as const;

export interface MergedLora {
  name: string;
  /** Weights that one side has changed and the other has not. */
  missed: number;
  /** The largest error of a weight, as a share of the largest change that the LoRA makes to it. */
  worst: number;
}

/** Merges every LoRA of a family's folder. */
export function mergeLoras(folder: string): MergedLora[] {
  const cases = JSON.parse(readFileSync(join(folder, 'lora/cases.json'), 'utf8')) as {
    case: string;
    scale: number;
  }[];
  const before = weightsOf(folder);
  return cases.map(({ case: name, scale }) => {
    const at = (file: string): string => join(folder, 'lora', name, file);
    const merged = weightsOf(folder, { path: at('lora.safetensors'), scale });
    const theirs = readSafetensors(at('fused.safetensors')).tensors;
    const changed = [...merged].filter(([key, value]) => maxError(value, before.get(key) as Tensor, 1) > 0);
    const missed = [
      ...changed.filter(([key]) => !theirs.has(key)),
      ...[...theirs.keys()].filter((key) => !changed.some(([ours]) => ours === key)),
    ];
    const errors = [...theirs].map(([key, expected]) => {
      const ours = merged.get(key);
      const change = maxError(expected, before.get(key) as Tensor, 1);
      return ours === undefined ? Number.POSITIVE_INFINITY : maxError(ours, expected, change);
    });
    return { name, missed: missed.length, worst: Math.max(...errors) };
  });
}

/** The weights of all parts that LoRAs change, by `<part>.<key>`. */
function weightsOf(folder: string, ...loras: { path: string; scale: number }[]): Map<string, Tensor> {
  using merger = openLoras(loras);
  const parts = withLoras(openModelParts(join(folder, 'model')), merger);
  const hasSecond = readdirSync(join(folder, 'model')).includes('text_encoder_2');
  const models = {
    unet: parts.loadUNet(target),
    text_encoder: parts.loadTextEncoder(target),
    ...(hasSecond && { text_encoder_2: parts.loadSecondTextEncoder(target) }),
  };
  const weights = Object.entries(models).flatMap(([part, model]) =>
    Array.from(model.namedParameters(), ([key, value]): [string, Tensor] => [`${part}.${key}`, value]),
  );
  merger.finish('the model');
  return new Map(weights);
}
