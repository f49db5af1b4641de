import { expect, it } from 'vitest';
import { ConfigError } from '../base/errors.js';
import { assertCudaGraphs, resolveTarget } from './target.js';

it('names a GPU that does not exist', () => {
  expect(() => resolveTarget({ device: 'cuda:99' })).toThrow(ConfigError);
  expect(() => resolveTarget({ device: 'cuda:99' })).toThrow(
    /--device cuda:99 .*(finds none|finds (only )?cuda:0)/,
  );
});

it('refuses CUDA graphs on the CPU', () => {
  expect(() => assertCudaGraphs('cpu')).toThrow(ConfigError);
  expect(() => assertCudaGraphs('cpu')).toThrow('--cuda-graphs needs --device cuda');
});
