/** @file Initial weights with which deep convolutional networks learn within minutes. */
import { initParameters } from '../../src/nn/init.js';
import type { Module } from '../../src/nn/module.js';
import { type Generator, noGrad, tidy } from '../../src/torch/index.js';

/**
 * Initialises like PyTorch, except that layers preserve the variance of their input (PyTorch's defaults divide it by three),
 * and that biases and the last layer of every residual branch are zero, so that the network starts as a shallow one (Goyal
 * et al., arXiv 1706.02677, section 5.1).
 * @param branchEnds matches the names of the weights of the last layers of residual branches
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
