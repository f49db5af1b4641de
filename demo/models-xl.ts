/**
 * @file The Stable Diffusion XL of the demo, made in a second from its Stable Diffusion (demo/models) and the weights that are
 * trained for it alone (demo/models-xl): the same scenes, by SDXL's classes and conditioning.
 *
 * SDXL's UNet attends to the penultimate states of two text encoders, which no layer normalises; the small UNet was trained
 * on normalised last states. Both encoders here are the small one with layers that add nothing, or exactly a multiple of
 * the normalisation N: with h for its last state, they give h + N(h) and h, and the UNet takes the difference. So it draws what
 * the small model draws, but for rounding, until `add_embedding` adds what the pooled text and the sizes say.
 */
import { cpSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { makeFolder } from '../src/base/make-folder.js';
import { readSafetensors, writeSafetensors } from '../src/formats/index.js';
import { cat, noGrad, type Tensor, tensor, tidy, zeros } from '../src/torch/index.js';
import { modelIndexXL, textConfig, unetConfigXL } from './pretrain/models.js';

type Weights = Map<string, Tensor>;

const source = 'demo/models';
/** The weights of `add_embedding`, which demo/pretrain/add-embedding.ts trains. */
export const addEmbeddingFile = 'demo/models-xl/add_embedding.safetensors';

/**
 * Writes the model in the layout of diffusers.
 * @param addEmbedding weights of `add_embedding`, by their names in it
 */
export function writeModelsXL(folder: string, addEmbedding: Weights): void {
  for (const part of ['vae', 'scheduler', 'tokenizer'])
    cpSync(join(source, part), join(folder, part), { recursive: true });
  cpSync(join(source, 'tokenizer'), join(folder, 'tokenizer_2'), { recursive: true });
  writeJson(folder, 'model_index.json', modelIndexXL);
  using _ = noGrad();
  tidy(() => {
    const text = readSafetensors(join(source, 'text_encoder/model.safetensors')).tensors;
    const tokens = text.get('text_model.embeddings.token_embedding.weight')?.shape[0] as number;
    const layers = layersOf(text);
    // The last layer of each adds nothing, so that the penultimate states are those that it would be given.
    const normalised = new Map([...text, ...normalisingLayer(text, layers), ...emptyLayer(text, layers + 1)]);
    writeText(join(folder, 'text_encoder'), textConfig(tokens, layers + 2), normalised);
    const plain = new Map([
      ...text,
      ...emptyLayer(text, layers),
      ['text_projection.weight', identityOf(widthOf(text))] as const,
    ]);
    const config = { ...textConfig(tokens, layers + 1), architectures: ['CLIPTextModelWithProjection'] };
    writeText(join(folder, 'text_encoder_2'), config, plain);

    const unet = readSafetensors(join(source, 'unet/diffusion_pytorch_model.safetensors')).tensors;
    const converted = new Map(Array.from(unet, ([name, weight]) => [name, ofXL(name, weight)]));
    for (const [name, weight] of addEmbedding) converted.set(`add_embedding.${name}`, weight.to('float16'));
    writeJson(join(folder, 'unet'), 'config.json', unetConfigXL);
    writeSafetensors(join(folder, 'unet/diffusion_pytorch_model.safetensors'), converted, { format: 'pt' });
  });
}

/** Reads the trained weights of `add_embedding`. */
export function readAddEmbedding(): Weights {
  return readSafetensors(addEmbeddingFile).tensors;
}

/** What a weight of the small UNet is in SDXL's: the transformers have linear layers in place of convolutions of 1 × 1. */
function ofXL(name: string, weight: Tensor): Tensor {
  if (/\.proj_(in|out)\.weight$/.test(name)) return weight.flatten(1).clone();
  if (/\.attn2\.to_[kv]\.weight$/.test(name)) return cat([weight, weight.neg()], 1);
  return weight;
}

function writeText(folder: string, config: object, weights: Weights): void {
  writeJson(folder, 'config.json', config);
  writeSafetensors(join(folder, 'model.safetensors'), weights, { format: 'pt' });
}

function writeJson(folder: string, file: string, content: object): void {
  makeFolder(folder);
  writeFileSync(join(folder, file), `${JSON.stringify(content, null, 2)}\n`);
}

const layerName = /^text_model\.encoder\.layers\.(\d+)\./;

function layersOf(text: Weights): number {
  return 1 + Math.max(...Array.from(text.keys(), (name) => Number(layerName.exec(name)?.[1] ?? -1)));
}

function widthOf(text: Weights): number {
  return text.get('text_model.final_layer_norm.weight')?.shape[0] as number;
}

/** Returns a layer, numbered `index`, whose two branches are zero. */
function emptyLayer(text: Weights, index: number): Weights {
  const first = [...text].filter(([name]) => layerName.exec(name)?.[1] === '0');
  return new Map(
    first.map(([name, weight]) => {
      const isEnd = name.includes('.out_proj.') || name.includes('.fc2.');
      return [name.replace('.layers.0.', `.layers.${index}.`), isEnd ? weight.mul(0) : weight.clone()];
    }),
  );
}

/**
 * Returns a layer that adds the final normalisation of its input. Its MLP is the identity: for quick GELU, x·σ(1.702 x),
 * q(x) − q(−x) = x.
 */
function normalisingLayer(text: Weights, index: number): Weights {
  const layer = emptyLayer(text, index);
  const name = (end: string) => `text_model.encoder.layers.${index}.${end}`;
  const identity = identityOf(widthOf(text));
  const rest = (layer.get(name('mlp.fc1.weight'))?.shape[0] as number) - 2 * widthOf(text);
  const none = zeros([rest, widthOf(text)], { dtype: 'float16' });
  const fc1 = cat([identity, identity.neg(), none], 0);
  return new Map([
    ...layer,
    [name('mlp.fc1.weight'), fc1],
    [name('mlp.fc1.bias'), (layer.get(name('mlp.fc1.bias')) as Tensor).mul(0)],
    [name('mlp.fc2.weight'), fc1.transpose(0, 1).contiguous()],
    ...['weight', 'bias'].map(
      (end) =>
        [
          name(`layer_norm2.${end}`),
          (text.get(`text_model.final_layer_norm.${end}`) as Tensor).clone(),
        ] as const,
    ),
  ]);
}

function identityOf(width: number): Tensor {
  const values = Array.from({ length: width * width }, (_, i) => (i % (width + 1) === 0 ? 1 : 0));
  return tensor(values, [width, width]).to('float16');
}
