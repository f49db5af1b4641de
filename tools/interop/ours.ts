/** @file Our side: models that peers have saved, adapters that our commands train, and what they compute. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeAdapter } from '../../src/adapters/adapter-file.js';
import { openImageEncoder } from '../../src/adapters/image-encoder.js';
import { openAdapter } from '../../src/adapters/open-adapter.js';
import type { Conditioning } from '../../src/diffusion/conditioning.js';
import { openDiffusionModel } from '../../src/diffusion/open-model.js';
import { readSafetensors, writeSafetensors } from '../../src/formats/index.js';
import { nullFeatures } from '../../src/generation/image-prompt.js';
import { AdamW } from '../../src/optim/adamw.js';
import type { TrainableKind } from '../../src/options/train-options.js';
import { backward, cat, Generator, noGrad, randn, type Tensor, tensor, tidy } from '../../src/torch/index.js';
import { type StepInputs, trainingLoss } from '../../src/training/loss.js';
import { createAdapter } from '../../src/training/setup.js';
import { run } from './environment.js';

const target = { device: 'cpu', dtype: 'float32' } as const;
const program = join(import.meta.dirname, '../../dist/cli/ip-adapter.cjs');

/** One kind of adapter for one family; its files are in `<family>/<kind>`. */
export interface Case {
  family: 'sd15' | 'sdxl';
  kind: TrainableKind;
}

/** What is drawn, by us and by diffusers. */
const request = {
  prompt: 'a red circle on a blue square',
  negativePrompt: 'green',
  seed: 5,
  steps: 5,
  guidanceScale: 5,
  guidanceRescale: 0.7,
  scale: 0.8,
};

function ipAdapter(...words: (string | number)[]): void {
  run(process.execPath, [program, ...words.map(String), '--threads', '1']);
}

/** Trains two steps, exports the adapter, and draws an image with it and one without. */
export function useCommands(work: string, { family, kind }: Case): void {
  const at = (...names: string[]): string => join(work, family, ...names);
  const models = ['--model', at('model'), '--image-encoder', at('image_encoder'), '--device', 'cpu'];
  const data = ['--dataset', join(work, 'data/data.json')];
  const sizes = ['--resolution', 64, '--batch-size', 2, '--max-steps', 2, '--learning-rate', 1e-3];
  const out = at(kind, 'run');
  ipAdapter(
    'train',
    ...models,
    ...data,
    ...sizes,
    '--kind',
    kind,
    '--report-to',
    'none',
    '--output-dir',
    out,
  );
  const adapter = at(kind, 'adapter.safetensors');
  run(process.execPath, [program, 'export', join(out, 'checkpoint-2'), adapter]);
  const image = join(work, 'data/0.png');
  writeFileSync(at(kind, 'request.json'), JSON.stringify({ ...request, image }));
  for (const [name, scale] of [
    ['ours.png', request.scale],
    ['without.png', 0],
  ] as const) {
    const { prompt, negativePrompt, seed, steps, guidanceScale, guidanceRescale } = request;
    const words = ['--prompt', prompt, '--negative-prompt', negativePrompt, '--images', image];
    const numbers = ['--seed', seed, '--steps', steps, '--guidance-scale', guidanceScale, '--scale', scale];
    const rescale = ['--guidance-rescale', guidanceRescale];
    const files = ['--adapter', adapter, '--out', at(kind, name)];
    const size = ['--width', 64, '--height', 64];
    ipAdapter('generate', ...models, ...words, ...numbers, ...rescale, ...size, ...files);
  }
}

/** Returns what every model of a family makes of the inputs that peers recorded, by the records' names. */
export function runModels(folder: string): Map<string, Tensor> {
  const io = readSafetensors(join(folder, 'io.safetensors')).tensors;
  const at = (name: string): Tensor => io.get(name) as Tensor;
  const model = openDiffusionModel(join(folder, 'model'));
  const [textEncoder, backbone, vae] = [
    model.loadTextEncoder(target),
    model.loadBackbone(target),
    model.loadVAE(target),
  ];
  const encoder = openImageEncoder(join(folder, 'image_encoder')).load(target);
  using _ = noGrad();
  return tidy(() => {
    const words = model.tokenizer();
    const ids = ['a red circle on a blue square', ''].map((text) =>
      tensor(words.encode(text), [1, ...words.shape], 'int64'),
    );
    const conditioning = textEncoder.condition(cat(ids), 0);
    const recorded = recordedConditioning(io);
    return new Map<string, Tensor>([
      ['input_ids', words.shape.length > 1 ? cat(ids).select(1, 0) : cat(ids)],
      ['text', conditioning.text],
      ...(conditioning.pooled ? [['pooled', conditioning.pooled] as [string, Tensor]] : []),
      ['prediction', backbone.predict(at('noisy'), at('timesteps'), recorded)],
      ['mean', vae.encode(at('image')).mean],
      ['decoded', vae.decode(at('latents'))],
      ['tokens', encoder.encode(at('pixel_values'), 'tokens')],
      ['embeds', encoder.encode(at('pixel_values'), 'pooled')],
    ]);
  });
}

/** Writes `ours.safetensors`: image tokens, and the UNet's prediction with the adapter, for ComfyUI's code to repeat. */
export function writeForComfyUI(work: string, { family, kind: name }: Case): void {
  const folder = join(work, family);
  const { backbone, encoder, io } = openFamily(folder);
  const opened = openAdapter(join(folder, name, 'adapter.safetensors'), backbone.sites);
  const { module: adapter, kind } = opened;
  using _ = noGrad();
  tidy(() => {
    const features = encoder.encode((io.get('pixel_values') as Tensor).slice(0, 0, 1), kind.feature);
    const absent = nullFeatures(opened, encoder, undefined);
    const [tokens, nullTokens] = [adapter.call(features), adapter.call(absent)];
    // ComfyUI's order: the unconditional row first.
    const rows = tensor([1, 0], [2], 'int64');
    const noisy = (io.get('noisy') as Tensor).indexSelect(0, rows);
    const conditioning = recordedConditioning(io, rows);
    const timestep = tensor([781], [1], 'int64');
    const addition = adapter.addition(cat([nullTokens, tokens]), request.scale);
    const written = new Map([
      ['features', features],
      ['null_features', absent],
      ['tokens', tokens],
      ['null_tokens', nullTokens],
      ['scale', tensor([request.scale], [1])],
      ['noisy', noisy],
      ['timestep', timestep],
      ...recordOf(conditioning),
      ['prediction', backbone.predict(noisy, timestep, conditioning, { additions: [addition] })],
      ['without', backbone.predict(noisy, timestep, conditioning)],
    ] as [string, Tensor][]);
    writeSafetensors(join(folder, name, 'ours.safetensors'), contiguous(written));
  });
}

/** Trains a new adapter three steps; writes its first weights and the steps' inputs for PyTorch to repeat. */
export function trainSteps(
  work: string,
  { family, kind: name }: Case,
): { losses: number[]; trained: Map<string, Tensor> } {
  const folder = join(work, family);
  const { model, backbone, encoder, io } = openFamily(folder);
  const surroundings = { backbone, imageEncoder: encoder };
  const { adapter, kind } = createAdapter(
    surroundings,
    { kind: name, numTokens: undefined, seed: 1 },
    undefined,
    'cpu',
  );
  const parameters = adapter.namedParameters();
  writeAdapter(join(folder, name, 'init.safetensors'), parameters);
  const objective = model.objective('cpu');
  const optimizer = new AdamW({ adapter: { parameters, learningRate: 1e-4 } }, { weightDecay: 1e-2 });
  const generator = new Generator('cpu', 2);
  const inputs = [0, 1, 2].map((step): StepInputs => {
    const timesteps = tensor([13 + 300 * step, 999 - 200 * step], [2], 'int64');
    const [latents, noise] = [randn([2, 4, 8, 8], { generator }), randn([2, 4, 8, 8], { generator })];
    const imageFeatures = encoder.encode(randn([2, 3, 56, 56], { generator }), kind.feature);
    return { latents, noise, timesteps, conditioning: recordedConditioning(io), imageFeatures };
  });
  const written = inputs.flatMap(({ conditioning, imageFeatures, latents, noise, timesteps }, step) =>
    [
      ...Object.entries({ latents, noise, timesteps, features: imageFeatures }),
      ...recordOf(conditioning),
    ].map(([key, value]): [string, Tensor] => [`${step}.${key}`, value]),
  );
  writeSafetensors(join(folder, name, 'steps.safetensors'), contiguous(new Map(written)));
  const losses = inputs.map((rows) =>
    tidy(() => {
      const { loss } = trainingLoss({ backbone, objective }, adapter, rows);
      backward(loss);
      optimizer.step();
      optimizer.zeroGrad();
      return loss.item();
    }),
  );
  return { losses, trained: parameters };
}

function openFamily(folder: string) {
  const model = openDiffusionModel(join(folder, 'model'));
  return {
    model,
    backbone: model.loadBackbone(target),
    encoder: openImageEncoder(join(folder, 'image_encoder')).load(target),
    io: readSafetensors(join(folder, 'io.safetensors')).tensors,
  };
}

/** Returns the conditioning that peers recorded; of these rows where they are given. */
function recordedConditioning(io: ReadonlyMap<string, Tensor>, rows?: Tensor): Conditioning {
  const at = (name: string): Tensor | undefined => {
    const value = io.get(name);
    return rows === undefined ? value : value?.indexSelect(0, rows);
  };
  const [pooled, timeIds] = [at('pooled'), at('time_ids')];
  return { text: at('text') as Tensor, ...(pooled && { pooled }), ...(timeIds && { timeIds }) };
}

function recordOf({ text, pooled, timeIds }: Conditioning): [string, Tensor][] {
  const entries = { text, pooled, time_ids: timeIds };
  return Object.entries(entries).filter((entry): entry is [string, Tensor] => entry[1] !== undefined);
}

function contiguous(tensors: Map<string, Tensor>): Map<string, Tensor> {
  return new Map(Array.from(tensors, ([key, value]) => [key, value.detach().contiguous()]));
}
