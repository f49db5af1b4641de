/**
 * @file Renames a text model in OpenCLIP's layout (mlfoundations/open_clip `src/open_clip/transformer.py`), the second text
 * encoder of SDXL's single files, to the names of transformers.
 */
import type { Tensor } from '../torch/index.js';
import type { Adapt } from './published-keys.js';

const outside: Record<string, string> = {
  positional_embedding: 'text_model.embeddings.position_embedding.weight',
  'token_embedding.weight': 'text_model.embeddings.token_embedding.weight',
  'ln_final.weight': 'text_model.final_layer_norm.weight',
  'ln_final.bias': 'text_model.final_layer_norm.bias',
};

const inLayer: Record<string, string> = {
  'attn.out_proj': 'self_attn.out_proj',
  ln_1: 'layer_norm1',
  ln_2: 'layer_norm2',
  'mlp.c_fc': 'mlp.fc1',
  'mlp.c_proj': 'mlp.fc2',
};

/** Unknown names and shapes stay as they are, so that loading reports them. */
export const adaptOpenCLIPText: Adapt = (published) => {
  const tensors = new Map<string, Tensor>();
  const unused: string[] = [];
  for (const [key, tensor] of published) {
    const [, layer, name = '', kind] =
      /^transformer\.resblocks\.(\d+)\.(.+)[._](weight|bias)$/.exec(key) ?? [];
    const to = `text_model.encoder.layers.${layer}`;
    if (key === 'logit_scale') unused.push(key);
    // OpenCLIP multiplies by the matrix, where transformers has a linear layer.
    else if (key === 'text_projection' && tensor.ndim === 2)
      tensors.set('text_projection.weight', tensor.transpose(0, 1).contiguous());
    else if (name === 'attn.in_proj' && (tensor.shape[0] ?? 0) % 3 === 0)
      for (const [i, third] of splitInThree(tensor).entries())
        tensors.set(`${to}.self_attn.${'qkv'[i]}_proj.${kind}`, third);
    else if (inLayer[name] !== undefined) tensors.set(`${to}.${inLayer[name]}.${kind}`, tensor);
    else tensors.set(outside[key] ?? key, tensor);
  }
  return { tensors, unused };
};

/** Returns the queries', keys' and values' thirds of a projection to all of them. */
function splitInThree(projection: Tensor): Tensor[] {
  const width = (projection.shape[0] ?? 0) / 3;
  return [0, 1, 2].map((i) => projection.slice(0, i * width, (i + 1) * width));
}
