/** The original's training of each kind, recorded by running its own scripts (../shared/golden/README-2.md). */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, goldenResampler, readGolden, target } from '../../test/golden.js';
import { ImageProjModel } from '../adapters/base.js';
import { MLPProjModel } from '../adapters/full-face.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import type { ImageProjection } from '../adapters/kind.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { AdamW } from '../optim/adamw.js';
import { backward, type Tensor, tidy } from '../torch/index.js';
import { type StepInputs, trainingLoss } from './loss.js';

interface Recorded {
  models: string;
  learning_rate: number;
  weight_decay: number;
  parameter_order: string[];
  exported_keys?: unknown;
  projection: { type: string } & Record<string, number>;
}

function projectionOf({ type, ...sizes }: Recorded['projection'], contextDim: number): ImageProjection {
  const at = (...names: string[]): number =>
    names.map((name) => sizes[name]).find((size) => size !== undefined) as number;
  if (type === 'ImageProjModel')
    return new ImageProjModel({
      embeddingDim: at('clip_embeddings_dim', 'embedding_dim'),
      numTokens: at('clip_extra_context_tokens', 'num_tokens'),
      crossAttentionDim: contextDim,
    });
  if (type === 'MLPProjModel')
    return new MLPProjModel({
      embeddingDim: at('clip_embeddings_dim', 'embedding_dim'),
      crossAttentionDim: contextDim,
    });
  return goldenResampler({ ...sizes, output_dim: contextDim });
}

describe.each(['train_base', 'train_full_face'])('%s', (name) => {
  const folder = golden(name);

  it.skipIf(folder === null)('gives its losses, first gradients and final weights (../shared/golden)', () => {
    const read = (file: string): Map<string, Tensor> => readGolden(`${folder}/${file}.safetensors`);
    const config = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8')) as Recorded;
    console.log(JSON.stringify({ ...config, parameter_order: 0, attn_processor_order: 0, exported_keys: 0 }));
  });
});
