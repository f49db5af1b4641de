/** @file Merges LoRAs into the weights of a model: W + scale · alpha / rank · up · down. A generation then costs nothing more. */
import { CheckpointError } from '../base/errors.js';
import type { Module } from '../nn/module.js';
import { noGrad, type Tensor, tidy } from '../torch/index.js';
import { type LoraLayer, readLora } from './lora-file.js';
import { flatLoraName, type LoraPart, loraNames } from './lora-names.js';

/** A LoRA's file and its strength, 1 as trained. */
export interface LoraSource {
  path: string;
  scale: number;
}

interface OpenLora extends LoraSource {
  /** The layers that no part has used yet, by their flat names. */
  unused: Map<string, LoraLayer>;
  /** Keys that belong to no layer. */
  unknownKeys: readonly string[];
  /** All of the file, to be released. */
  tensors: readonly Tensor[];
  merged: number;
}

/** What one LoRA adds to a weight. */
interface Change {
  lora: OpenLora;
  layer: LoraLayer;
}

/** Names that a warning lists. */
const MAX_LISTED = 20;

/** LoRAs that are merged into the parts of a model as they are loaded. */
export class LoraMerger {
  readonly #loras: readonly OpenLora[];

  /** @throws CheckpointError where a file cannot be read, or is no LoRA */
  constructor(sources: readonly LoraSource[]) {
    this.#loras = sources.map((source) => {
      const { layers, ...file } = readLora(source.path);
      const unused = new Map(layers.map((layer) => [flatLoraName(layer.name), layer]));
      return { ...source, ...file, unused, merged: 0 };
    });
  }

  /**
   * Replaces the weights that LoRAs change by new tensors; mapped weights stay as they are. Sums are float32.
   * @param otherNames of the part's weights by their keys, in another layout
   * @throws CheckpointError where a layer's shape is not the weight's
   */
  merge<M extends Module<never[], unknown>>(
    part: LoraPart,
    model: M,
    otherNames: ReadonlyMap<string, readonly string[]> = new Map(),
  ): M {
    if (this.#loras.length === 0) return model;
    const keys = [...model.namedParameters().keys()].filter((key) => key.endsWith('.weight'));
    const names = loraNames(part, new Map(keys.map((key) => [key, otherNames.get(key) ?? []])));
    const changes = new Map<string, Change[]>();
    for (const lora of this.#loras)
      for (const [name, layer] of lora.unused) {
        const key = names.get(name);
        if (key === undefined) continue;
        lora.unused.delete(name);
        lora.merged++;
        if (lora.scale !== 0) changes.set(key, [...(changes.get(key) ?? []), { lora, layer }]);
      }
    using _ = noGrad();
    return model.replaceParameters((key, weight) => {
      const layers = changes.get(key);
      if (layers === undefined) return undefined;
      const sum = (total: Tensor, { lora, layer }: Change): Tensor =>
        total.add(differenceOf(layer, weight, key, lora.path), lora.scale * layer.scale);
      return tidy(() => layers.reduce(sum, weight.to('float32')).to(weight.dtype));
    });
  }

  /**
   * Says what was merged, after all parts have been loaded, and releases the files.
   * @throws CheckpointError where no layer of a LoRA is in the model
   */
  finish(family: string, onMessage?: (text: string) => void): void {
    for (const { path, scale, merged, unused, unknownKeys } of this.#loras) {
      const left = [...Array.from(unused.values(), ({ name }) => name), ...unknownKeys];
      if (merged === 0) throw new CheckpointError(noLayerMatches(path, family, left));
      const listed = left.slice(0, MAX_LISTED).join(', ');
      const rest = left.length > MAX_LISTED ? ` and ${left.length - MAX_LISTED} more` : '';
      const warning =
        left.length === 0 ? '' : `; not used, since the model has no such layer: ${listed}${rest}`;
      onMessage?.(`LoRA ${path}: ${merged} layers merged at scale ${scale}${warning}`);
    }
    this[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    for (const { tensors } of this.#loras) for (const tensor of tensors) tensor.dispose();
  }
}

function noLayerMatches(path: string, family: string, names: readonly string[]): string {
  const isTransformer = names.some((name) =>
    /(^|[._])(transformer\.|double_blocks|joint_blocks|single_)/.test(name),
  );
  return `Expected a LoRA for ${family} in ${path} but the model has none of its ${names.length} layers, such as ${names.slice(0, 3).join(', ')}; ${
    isTransformer
      ? 'they are those of a transformer, as in Flux or Stable Diffusion 3'
      : 'it may be for another model'
  }`;
}

/** Returns up · mid · down in float32, in the shape of the weight. */
function differenceOf(layer: LoraLayer, weight: Tensor, key: string, path: string): Tensor {
  assertFits(layer, weight, key, path);
  const matrix = (tensor: Tensor): Tensor =>
    tensor.to({ dtype: 'float32', device: weight.device }).flatten(1);
  const { down, up, mid } = layer;
  const product = matrix(up).matmul(matrix(mid ?? down));
  if (mid === undefined) return product.reshape(...weight.shape);
  // [out, rank · kernel] → [out, kernel, rank], times [rank, in]
  const [out = 0, inner = 0] = weight.shape;
  const kernel = product.reshape(out, down.shape[0] as number, -1).transpose(1, 2);
  return kernel
    .matmul(matrix(down))
    .transpose(1, 2)
    .reshape(out, inner, ...weight.shape.slice(2));
}

function assertFits({ name, down, up, mid }: LoraLayer, weight: Tensor, key: string, path: string): void {
  const [out, ...inner] = weight.shape;
  const rank = down.shape[0];
  // A linear layer may be a 1×1 convolution on one side.
  const sizes = (shape: readonly number[]): string => shape.join(' ').replace(/( 1)+$/, '');
  const middle = mid === undefined ? [rank] : mid.shape.slice(0, 2);
  const spans =
    mid === undefined
      ? sizes(down.shape) === sizes([rank as number, ...inner])
      : sizes(down.shape) === sizes([rank as number, inner[0] as number]) &&
        sizes(mid.shape.slice(2)) === sizes(inner.slice(1));
  if (spans && sizes(up.shape) === sizes([out as number, middle[0] as number]) && middle.at(-1) === rank)
    return;
  const shape = (tensor: Tensor): string => `[${tensor.shape.join(', ')}]`;
  throw new CheckpointError(
    `Expected the LoRA ${path} to fit the model but ${name} has the shapes ${[up, ...(mid ? [mid] : []), down].map(shape).join(' · ')} for ${key}, which is ${shape(weight)}; it is for another model`,
  );
}
