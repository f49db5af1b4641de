/**
 * @file PyTorch's default initialisation, for modules that start untrained (torch/nn/modules/linear.py,
 * conv.py and normalization.py, `reset_parameters`).
 */
import { type Device, full, type Generator, rand, type Tensor, tidy, zeros } from '../torch/index.js';
import type { Module } from './module.js';

/**
 * New values for every parameter of a module: weights of two and more dimensions and the biases beside them
 * uniform in ±1/√fan_in, norms' weights 1 and biases 0.
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
