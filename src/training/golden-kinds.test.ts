/** The original's training of each kind, recorded by running its own scripts (../shared/golden/README-2.md). */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { expectAllclose, golden, goldenResampler, readGolden, target } from '../../test/golden.js';
import { ImageProjModel } from '../adapters/base.js';
import { MLPProjModel } from '../adapters/full-face.js';
import { IPAdapter } from '../adapters/ip-adapter.js';
import type { ImageProjection } from '../adapters/kind.js';
import { contextDimOf } from '../adapters/open-adapter.js';
import { diffusionObjective } from '../diffusion/objective.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import { unetBackbone } from '../diffusion/unet-model.js';
import { AdamW } from '../optim/adamw.js';
import { DDPMScheduler } from '../schedulers/ddpm.js';
import { backward, type Tensor, tidy } from '../torch/index.js';
import { loadUNet } from '../weights/load.js';
import { type LossModels, type StepInputs, trainingLoss } from './loss.js';

interface Recorded {
  models: string | { unet: string };
  losses: number[];
  learning_rate: number;
  weight_decay: number;
  parameter_order: string[];
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

/** Opens the recorded models: a whole SDXL, or the UNet of the first set. */
function modelsOf({ models }: Recorded, folder: string): LossModels {
  if (typeof models === 'string') {
    const model = openDiffusionModel(join(folder, models));
    return { backbone: model.loadBackbone(target), objective: model.objective(target.device) };
  }
  const scheduler = golden('schedulers/sd15_scheduler_config.json') as string;
  return {
    backbone: unetBackbone(loadUNet(join(folder, models.unet), target)),
    objective: diffusionObjective(DDPMScheduler.fromConfig(scheduler, target.device)),
  };
}

const distance = (a: Map<string, Tensor>, b: Map<string, Tensor>): number =>
  Math.sqrt(
    [...b].reduce(
      (sum, [key, value]) =>
        sum + tidy(() => (a.get(key) as Tensor).detach().sub(value).square().sum().item()),
      0,
    ),
  );

describe.each(['train_base', 'train_full_face', 'train_sdxl', 'train_plus_sdxl'])('%s', (name) => {
  const folder = golden(name);

  it.skipIf(folder === null)('gives its losses, first gradients and final weights (../shared/golden)', () => {
    const read = (file: string): Map<string, Tensor> => readGolden(`${folder}/${file}.safetensors`);
    const config = JSON.parse(readFileSync(`${folder}/config.json`, 'utf8')) as Recorded;
    const models = modelsOf(config, folder as string);
    const { sites } = models.backbone;
    const adapter = new IPAdapter(sites, projectionOf(config.projection, contextDimOf(sites)));
    adapter.loadStateDict(read('init'), name);
    adapter.requiresGrad_(true);
    const parameters = adapter.namedParameters();
    expect([...parameters.keys()]).toEqual(config.parameter_order);
    const optimizer = new AdamW(
      { adapter: { parameters, learningRate: config.learning_rate } },
      { weightDecay: config.weight_decay },
    );
    const inputs = read('inputs');
    for (const [step, expected] of config.losses.entries()) {
      const at = (key: string): Tensor | undefined => inputs.get(`step${step}.${key}`);
      const [pooled, timeIds] = [at('text_embeds'), at('time_ids')];
      const stepInputs = {
        ...{ latents: at('latents'), noise: at('noise'), timesteps: at('timesteps') },
        conditioning: {
          text: at('encoder_hidden_states'),
          ...(pooled && { pooled }),
          ...(timeIds && { timeIds }),
        },
        imageFeatures: at('image_embeds'),
      } as StepInputs;
      tidy(() => {
        const { loss } = trainingLoss(models, adapter, stepInputs);
        expect(Math.abs(loss.item() / expected - 1)).toBeLessThan(1e-5);
        backward(loss);
        if (step === 0)
          for (const [key, gradient] of read('grads_step0'))
            expectAllclose(parameters.get(key)?.grad as Tensor, gradient, 1e-4);
        optimizer.step();
        optimizer.zeroGrad();
      });
      if (step === 0)
        expect(
          distance(parameters, read('after_step1')) / distance(read('init'), read('after_step1')),
        ).toBeLessThan(2e-3);
    }
    expect(distance(parameters, read('final')) / distance(read('init'), read('final'))).toBeLessThan(2e-3);
  });
});
