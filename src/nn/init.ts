/**
 * @file Initialises untrained modules with PyTorch's defaults (torch/nn/modules/linear.py, conv.py and normalization.py,
 * `reset_parameters`).
 */
import { type Device, full, type Generator, rand, type Tensor, tidy, zeros } from '../torch/index.js';
import type { Module } from './module.js';

/**
 * Initialises every parameter of a module: linear and convolution weights and their biases uniformly in ±1/√fan_in, the
 * weights of norms to 1 and their biases to 0.
 */
export function initParameters(
  module: Module<never[], unknown>,
  generator: Generator,
  device: Device = 'cpu',
): void {
  const shapes = new Map([...module.namedParameters()].map(([name, { shape }]) => [name, shape]));
  const values = new Map<string, Tensor>();
  for (const [name, shape] of shapes) {
    const weight = shapes.get(name.replace(/bias$/, 'weight')) ?? shape;
    if (weight.length < 2)
      values.set(name, name.endsWith('bias') ? zeros(shape, { device }) : full(shape, 1, { device }));
    else {
      const bound = 1 / Math.sqrt(weight.slice(1).reduce((product, size) => product * size, 1));
      values.set(
        name,
        tidy(() =>
          rand(shape, { generator, device })
            .mul_(2 * bound)
            .add_(-bound),
        ),
      );
    }
  }
  module.loadStateDict(values, 'the initial values');
}
