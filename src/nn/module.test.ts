import { describe, expect, it } from 'vitest';
import { expectAllclose } from '../../test/golden.js';
import { CheckpointError } from '../base/errors.js';
import { full, memoryStats, ones, type Tensor, tensor, tidy, zeros } from '../torch/index.js';
import { silu } from './functional.js';
import { Embedding, LayerNorm, Linear } from './layers.js';
import { chain, Module, Sequential } from './module.js';

class Tower extends Module {
  scale: Tensor = ones([2]);
  readonly blocks = [
    [new Linear(2, 2), null],
    [new LayerNorm(2), new Linear(2, 2, { bias: false })],
  ] as const;
  readonly head = new Sequential(new Linear(2, 2), silu, null, new Linear(2, 3));
  readonly label = 'not a parameter';
  readonly #cache = zeros([7]);

  protected forward(x: Tensor): Tensor {
    return this.head.call(x.mul(this.scale)).add(this.#cache.slice(0, 0, 3));
  }
}

const filled = (module: Module, value: number) =>
  new Map(Array.from(module.namedParameters(), ([key, { shape }]) => [key, full(shape, value)]));

function errorOf(fn: () => void): Error {
  try {
    fn();
  } catch (error) {
    return error as Error;
  }
  throw new Error('nothing was thrown');
}

describe('namedParameters', () => {
  it('returns keys by the path of fields', () => {
    expect([...new Tower().namedParameters().keys()]).toEqual([
      'scale',
      'blocks.0.0.weight',
      'blocks.0.0.bias',
      'blocks.1.0.weight',
      'blocks.1.0.bias',
      'blocks.1.1.weight',
      'head.0.weight',
      'head.0.bias',
      'head.3.weight',
      'head.3.bias',
    ]);
  });

  it('has no memory before weights are loaded', () => {
    const { weight } = new Embedding(10, 4);
    expect([weight.device, weight.shape, weight.requiresGrad]).toEqual(['meta', [10, 4], false]);
  });
});

describe('call', () => {
  it('runs submodules in order and releases intermediate tensors', () => {
    const tower = new Tower();
    tower.loadStateDict(filled(tower, 0.5), 'test');
    const x = tensor([2, 4], [1, 2]);
    const initialTensors = memoryStats().liveTensors;
    const output = tower.call(x);
    expect(memoryStats().liveTensors).toBe(initialTensors + 1);
    const inner = 0.5 * (1 + 2) + 0.5;
    const expected = (inner / (1 + Math.exp(-inner))) * 2 * 0.5 + 0.5;
    expectAllclose(output, full([1, 3], expected), 1e-6);
  });
});

describe('chain', () => {
  it('releases intermediate tensors at once, but not its input', () => {
    const x = ones([4]);
    const alive: number[] = [];
    const step = (y: Tensor) => {
      alive.push(memoryStats().liveTensors);
      return y.add(1);
    };
    tidy(() => expectAllclose(chain(x, [step, null, (y) => y, step, step]), full([4], 4), 0));
    expect(new Set(alive.slice(1)).size).toBe(1);
    expect(x.isDisposed).toBe(false);
  });
});

describe('loadStateDict', () => {
  it('reports all faults at once, with both shapes, and changes nothing', () => {
    const tower = new Tower();
    const tensors = filled(tower, 1);
    tensors.delete('scale');
    tensors.delete('head.0.bias');
    tensors
      .set('other.weight', ones([1]))
      .set('head.3.weight', ones([2, 3]))
      .set('head.3.bias', ones([]));
    const error = errorOf(() => tower.loadStateDict(tensors, 'model.safetensors'));
    expect(error).toBeInstanceOf(CheckpointError);
    expect(error.message.split('\n')).toEqual([
      'Expected the 10 tensors of Tower in model.safetensors but received 9 that do not fit:',
      '  missing (2): scale; head.0.bias',
      '  unexpected (1): other.weight',
      '  misshaped (2): head.3.weight expected [3, 2] but received [2, 3]; head.3.bias expected [3] but received []',
    ]);
    expect(tower.parameters()[1]?.device).toBe('meta');
  });

  it('abbreviates long lists', () => {
    const extra = new Map(Array.from({ length: 20 }, (_, i) => [`extra.${i}`, ones([1])]));
    const error = errorOf(() => new Linear(1, 1).loadStateDict(extra, 'x'));
    expect(error.message).toContain('unexpected (20): extra.0; extra.1;');
    expect(error.message).toContain('extra.7; … and 12 more');
  });

  it('does not copy the tensors, and keeps parameters trainable', () => {
    const layer = new Linear(2, 2).requiresGrad_(true);
    const weight = ones([2, 2]);
    layer.loadStateDict(
      new Map([
        ['weight', weight],
        ['bias', ones([2])],
      ]),
      'test',
    );
    expect(layer.weight).toBe(weight);
    expect(layer.parameters().map(({ requiresGrad }) => requiresGrad)).toEqual([true, true]);
  });
});

describe('to', () => {
  it('converts in place and keeps parameters trainable', () => {
    const layer = new Linear(2, 2);
    layer.loadStateDict(filled(layer, 2), 'test');
    layer.weight.requiresGrad = true;
    const oldWeight = layer.weight;
    layer.to({ dtype: 'float32' });
    expect(layer.weight).toBe(oldWeight);
    layer.to({ dtype: 'float64' });
    expect(oldWeight.isDisposed).toBe(true);
    expect([layer.weight.dtype, layer.weight.requiresGrad, layer.bias?.requiresGrad]).toEqual([
      'float64',
      true,
      false,
    ]);
    expectAllclose(layer.weight.detach(), full([2, 2], 2), 0);
  });
});
