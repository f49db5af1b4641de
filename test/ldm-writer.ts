/**
 * @file Writes the tiny SDXL of the shared golden data as a single file in the LDM layout: the inverse of loading, by the names
 * that diffusers' conversion gave (test/golden/ldm) and open_clip's layout, not by this package's maps.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeSafetensors, writeTorchZip } from '../src/formats/index.js';
import { cat, type Tensor, zeros } from '../src/torch/index.js';
import type { PartConfigs } from '../src/weights/single-file-family.js';
import { golden } from './golden.js';
import { readJson, weightsOf } from './model-files.js';

const names: Record<string, Record<string, string>> = JSON.parse(
  readFileSync(golden('ldm/diffusers_keys.json') as string, 'utf8'),
);

/** Returns the tensors of the whole file. @param folder of the tiny SDXL @param markers such as 'v_pred' */
export function ldmTensors(folder: string, markers: readonly string[] = []): Map<string, Tensor> {
  const weights = (part: string, name = 'diffusion_pytorch_model') => weightsOf(join(folder, part), name);
  const renamed = (prefix: string, part: 'unet' | 'vae') =>
    Array.from(weights(part), ([key, tensor]): [string, Tensor] => {
      const isConv = part === 'vae' && /attentions\.0\.to_.*weight$/.test(key);
      return [
        `${prefix}${names[`tiny_sdxl_${part}`]?.[key]}`,
        isConv ? tensor.reshape(...tensor.shape, 1, 1) : tensor,
      ];
    });
  return new Map<string, Tensor>([
    ...renamed('model.diffusion_model.', 'unet'),
    ...renamed('first_stage_model.', 'vae'),
    ...Array.from(weights('text_encoder', 'model'), ([key, tensor]): [string, Tensor] => [
      `conditioner.embedders.0.transformer.${key}`,
      tensor,
    ]),
    ...openCLIP(weights('text_encoder_2', 'model'), 'conditioner.embedders.1.model.'),
    ['denoiser.sigmas', zeros([1000])],
    ...markers.map((marker): [string, Tensor] => [marker, zeros([0])]),
  ]);
}

/** Writes the whole file, as `.safetensors` or `.ckpt`. */
export function writeLdmFile(path: string, tensors: ReadonlyMap<string, Tensor>): void {
  if (path.endsWith('.safetensors')) writeSafetensors(path, tensors);
  else writeTorchZip(path, { state_dict: tensors });
}

/** Returns the configs of the folder's parts. */
export function configsOf(folder: string): PartConfigs {
  const config = (part: string) => readJson(join(folder, part, 'config.json'));
  const text = (part: string) => {
    // What tells the class in a folder; the loader of a folder takes it away.
    const { architectures: _, ...json } = config(part);
    return json;
  };
  return {
    unet: config('unet'),
    vae: config('vae'),
    textEncoder: text('text_encoder'),
    textEncoder2: text('text_encoder_2'),
  };
}

function openCLIP(tensors: ReadonlyMap<string, Tensor>, prefix: string): [string, Tensor][] {
  const take = (key: string) => tensors.get(key) as Tensor;
  const model = 'text_model.';
  const layers = [...tensors.keys()].filter((key) => /layers\.\d+\.layer_norm1\.weight$/.test(key)).length;
  const whole: [string, Tensor][] = [
    ['positional_embedding', take(`${model}embeddings.position_embedding.weight`)],
    ['token_embedding.weight', take(`${model}embeddings.token_embedding.weight`)],
    ['ln_final.weight', take(`${model}final_layer_norm.weight`)],
    ['ln_final.bias', take(`${model}final_layer_norm.bias`)],
    ['text_projection', take('text_projection.weight').transpose(0, 1).contiguous()],
    ['logit_scale', zeros([])],
  ];
  for (let i = 0; i < layers; i++) {
    const [from, to] = [`${model}encoder.layers.${i}`, `transformer.resblocks.${i}`];
    for (const kind of ['weight', 'bias']) {
      const fused = ['q', 'k', 'v'].map((one) => take(`${from}.self_attn.${one}_proj.${kind}`));
      whole.push(
        [`${to}.attn.in_proj_${kind}`, cat(fused, 0)],
        [`${to}.attn.out_proj.${kind}`, take(`${from}.self_attn.out_proj.${kind}`)],
        [`${to}.ln_1.${kind}`, take(`${from}.layer_norm1.${kind}`)],
        [`${to}.ln_2.${kind}`, take(`${from}.layer_norm2.${kind}`)],
        [`${to}.mlp.c_fc.${kind}`, take(`${from}.mlp.fc1.${kind}`)],
        [`${to}.mlp.c_proj.${kind}`, take(`${from}.mlp.fc2.${kind}`)],
      );
    }
  }
  return whole.map(([name, tensor]) => [prefix + name, tensor]);
}
