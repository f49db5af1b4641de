/** @file Renames published weights to a model's own parameter names, and sets aside weights that the model does not use. */
import type { Tensor } from '../torch/index.js';

/** Tensors by a model's parameter names, and the published names of those that it does not use. */
interface AdaptedWeights {
  tensors: Map<string, Tensor>;
  unused: string[];
}

/** Renames published weights to a model's parameter names. */
export type Adapt = (tensors: ReadonlyMap<string, Tensor>) => AdaptedWeights;

export const asPublished: Adapt = (tensors) => ({ tensors: new Map(tensors), unused: [] });

// The VAE's attention names in files published before diffusers 0.13, such as those of SD 1.x.
const oldAttentionNames: Record<string, string> = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
};

/** Adapts a VAE's weights. Some files, and all in the LDM layout, have 1×1 convolutions as the attention's linear layers. */
export const adaptVAE: Adapt = (tensors) => {
  const adapted = new Map<string, Tensor>();
  for (const [key, tensor] of tensors) {
    const match = /^(.*\.attentions\.\d+)\.(query|key|value|proj_attn)\.(weight|bias)$/.exec(key);
    const name = match === null ? key : `${match[1]}.${oldAttentionNames[match[2] as string]}.${match[3]}`;
    const isConv = tensor.ndim === 4 && /\.attentions\.\d+\./.test(name);
    adapted.set(name, isConv ? tensor.flatten(1) : tensor);
  }
  return { tensors: adapted, unused: [] };
};

const textProjection = 'text_projection.weight';

/** Returns the width of CLIP's text embeddings; null where the weights contain no text projection. */
export function textProjectionDim(tensors: ReadonlyMap<string, Tensor>): number | null {
  return tensors.get(textProjection)?.shape[0] ?? null;
}

/** Adapts the weights of a CLIPTextModel, a CLIPTextModelWithProjection or a whole CLIPModel. */
export function adaptCLIPText({
  isWhole,
  projection = false,
}: {
  isWhole: boolean;
  /** Whether the model has a text projection. */
  projection?: boolean;
}): Adapt {
  const isUnused = (key: string): boolean =>
    (isWhole && /^(vision_model\.|visual_projection\.|logit_scale$)/.test(key)) ||
    (!projection && key === textProjection);
  return adaptCLIP('text_model', ['embeddings', 'encoder', 'final_layer_norm'], isUnused);
}

/** Adapts the weights of a CLIPVisionModelWithProjection or a whole CLIPModel. */
export function adaptCLIPVision({ isWhole }: { isWhole: boolean }): Adapt {
  const isUnused = (key: string): boolean =>
    isWhole && /^(text_model\.|text_projection\.|logit_scale$)/.test(key);
  return adaptCLIP('vision_model', ['embeddings', 'encoder', 'pre_layrnorm', 'post_layernorm'], isUnused);
}

/** Adapts the weights of a SiglipVisionModel, with the prefix of transformers 4 or without, or a whole SiglipModel. */
export const adaptSiglipVision: Adapt = (tensors) =>
  renamed(tensors, (key) =>
    /^(text_model\.|logit_(scale|bias)$)|embeddings\.position_ids$/.test(key)
      ? null
      : key.replace(/^vision_model\./, ''),
  );

/** Adapts the weights of a ViTModel or Dinov2Model: the mask of its training and a classifier's pooler are not used. */
export const adaptDino: Adapt = (tensors) =>
  renamed(tensors, (key) => (/^(embeddings\.mask_token$|pooler\.)/.test(key) ? null : key));

/** @param nameOf returns the model's own name; null where it does not use the tensor */
function renamed(
  tensors: ReadonlyMap<string, Tensor>,
  nameOf: (key: string) => string | null,
): AdaptedWeights {
  const adapted = new Map<string, Tensor>();
  const unused: string[] = [];
  for (const [key, tensor] of tensors) {
    const name = nameOf(key);
    if (name === null) unused.push(key);
    else adapted.set(name, tensor);
  }
  return { tensors: adapted, unused };
}

/**
 * @param part the prefix that transformers 4 gives to every layer of the transformer. transformers 5 leaves it out where
 *   the model is a CLIPTextModel or CLIPVisionModel.
 * @param layers the first parts of the names without the prefix
 */
function adaptCLIP(part: string, layers: readonly string[], isUnused: (key: string) => boolean): Adapt {
  return (tensors) => {
    const isPrefixed = [...tensors.keys()].some((key) => key.startsWith(`${part}.`));
    return renamed(tensors, (key) => {
      // Old versions of transformers saved the positions 0 … n - 1 with the weights.
      if (isUnused(key) || key.endsWith('embeddings.position_ids')) return null;
      return !isPrefixed && layers.includes(key.split('.', 1)[0] as string) ? `${part}.${key}` : key;
    });
  };
}

/** Returns a summary for messages, such as 'text_model.* (196), logit_scale'. */
export function summarizeKeys(keys: Iterable<string>): string {
  const groups = new Map<string, string[]>();
  for (const key of keys) {
    const group = key.split('.')[0] as string;
    groups.set(group, [...(groups.get(group) ?? []), key]);
  }
  return Array.from(groups, ([group, members]) =>
    members.length === 1 ? members[0] : `${group}.* (${members.length})`,
  ).join(', ');
}
