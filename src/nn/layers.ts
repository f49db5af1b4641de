/** @file Basic layers, with fields, shapes and therefore state-dict keys as in torch.nn. */
import { empty, type Tensor } from '../torch/index.js';
import { conv2d, embedding, groupNorm, layerNorm, linear } from './functional.js';
import { Module } from './module.js';

// Returns a parameter without memory; loadStateDict supplies its values.
function parameter(...shape: number[]): Tensor {
  return empty(shape, { device: 'meta' });
}

/** x Wᵀ + b: [..., inFeatures] → [..., outFeatures] */
export class Linear extends Module {
  weight: Tensor;
  bias: Tensor | null;

  constructor(inFeatures: number, outFeatures: number, { bias = true } = {}) {
    super();
    this.weight = parameter(outFeatures, inFeatures);
    this.bias = bias ? parameter(outFeatures) : null;
  }

  protected forward(x: Tensor): Tensor {
    return linear(x, this.weight, this.bias);
  }
}

/** [batch, inChannels, height, width] → [batch, outChannels, height', width'], with a square kernel */
export class Conv2d extends Module {
  weight: Tensor;
  bias: Tensor | null;
  readonly stride: number;
  readonly padding: number;

  constructor(
    inChannels: number,
    outChannels: number,
    kernel: number,
    { stride = 1, padding = 0, bias = true } = {},
  ) {
    super();
    this.weight = parameter(outChannels, inChannels, kernel, kernel);
    this.bias = bias ? parameter(outChannels) : null;
    this.stride = stride;
    this.padding = padding;
  }

  protected forward(x: Tensor): Tensor {
    return conv2d(x, this.weight, this.bias, this.stride, this.padding);
  }
}

/** Normalises each of `groups` groups of channels of [batch, channels, ...]. */
export class GroupNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  readonly groups: number;
  readonly eps: number;

  constructor(groups: number, channels: number, eps = 1e-5) {
    super();
    this.weight = parameter(channels);
    this.bias = parameter(channels);
    this.groups = groups;
    this.eps = eps;
  }

  protected forward(x: Tensor): Tensor {
    return groupNorm(x, this.groups, this.weight, this.bias, this.eps);
  }
}

/** Normalises the last dimension of [..., dim]. */
export class LayerNorm extends Module {
  weight: Tensor;
  bias: Tensor;
  readonly eps: number;

  constructor(dim: number, eps = 1e-5) {
    super();
    this.weight = parameter(dim);
    this.bias = parameter(dim);
    this.eps = eps;
  }

  protected forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, this.bias, this.eps);
  }
}

/** Integers [...] in 0 … count - 1 → [..., dim] */
export class Embedding extends Module {
  weight: Tensor;

  constructor(count: number, dim: number) {
    super();
    this.weight = parameter(count, dim);
  }

  protected forward(ids: Tensor): Tensor {
    return embedding(ids, this.weight);
  }
}
