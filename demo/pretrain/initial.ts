/** @file First weights for deep convolutional networks that have to learn within minutes. */
import { initParameters } from '../../src/nn/init.js';
import type { Module } from '../../src/nn/module.js';
import { type Generator, noGrad, tidy } from '../../src/torch/index.js';

/**
 * PyTorch's defaults, but layers keep the variance of what goes through them (the defaults take two thirds of it
 * away, until biases drown the input), biases are zero, and so is the last layer of every branch beside a shortcut:
 * the network begins as a shallow one and deepens (Goyal et al., arXiv 1706.02677, section 5.1).
 * @param branchEnds matches the names of those last layers' weights
 */
export function initForTraining(
  module: Module<never[], unknown>,
  generator: Generator,
  branchEnds: RegExp,
): void {
  initParameters(module as Module, generator);
  using _ = noGrad();
  tidy(() => {
    for (const [name, parameter] of module.namedParameters()) {
      if (name.endsWith('.bias') || branchEnds.test(name)) parameter.zero_();
      else if (parameter.ndim > 1) parameter.mul_(Math.sqrt(3));
    }
  });
}
