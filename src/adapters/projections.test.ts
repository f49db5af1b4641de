import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, goldenFolders, readGolden, target } from '../../test/golden.js';
import type { Module } from '../nn/module.js';
import { backward, type Tensor, zeros } from '../torch/index.js';
import { ImageProjModel } from './base.js';
import { MLPProjModel } from './full-face.js';

describe.each(goldenFolders('image_proj'))('as the original computes it, %s', (folder) => {
  const models: [string, (embeddingDim: number, output: readonly number[]) => Module][] = [
    [
      'ImageProjModel',
      (embeddingDim, [, tokens = 0, crossAttentionDim = 0]) =>
        new ImageProjModel({ embeddingDim, numTokens: tokens, crossAttentionDim }),
    ],
    [
      'MLPProjModel',
      (embeddingDim, [, , crossAttentionDim = 0]) => new MLPProjModel({ embeddingDim, crossAttentionDim }),
    ],
  ];

  it.each(models)('%s, values and gradients', (name, make) => {
    const recorded = readGolden(join(folder, `${name}.io.safetensors`));
    const of = (key: string): Tensor => recorded.get(key) as Tensor;
    const input = of('input');
    const model = make(input.shape.at(-1) as number, of('output').shape);
    const tensors = readGolden(join(folder, `${name}.weights.safetensors`));
    model.loadStateDict(new Map(Array.from(tensors, ([key, value]) => [key, value.clone()])), name);
    model.requiresGrad_(true);
    input.requiresGrad = true;

    const output = model.call(input);
    expectAllclose(output, of('output'), 1e-5);
    expectAllclose(model.call(zeros(input.shape, target)), of('output_for_zero_input'), 1e-5);
    backward(output.mul(of('random')).mean());
    const gradients = new Map([...model.namedParameters(), ['input', input]]);
    const expected = [...recorded.keys()].filter((key) => key.startsWith('grad.'));
    expect(expected).toHaveLength(gradients.size);
    for (const key of expected)
      expectAllclose(gradients.get(key.slice('grad.'.length))?.grad as Tensor, of(key), 1e-4);
  });
});
