/** @file Weights as they were published, turned into those of a model here: names of older files, and what is not used. */
import type { Tensor } from '../torch/index.js';

/** Tensors by the names of a model here, and the names of those that it has no use for. */
interface AdaptedWeights {
  tensors: Map<string, Tensor>;
  unused: string[];
}

/** Turns the published names into today's. */
export type Adapt = (tensors: ReadonlyMap<string, Tensor>) => AdaptedWeights;

export const asPublished: Adapt = (tensors) => ({ tensors: new Map(tensors), unused: [] });

// Published before diffusers 0.13 (SD 1.x among them), the autoencoder's attention has other names.
const oldAttentionNames: Record<string, string> = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
};

/** The autoencoder's. Some files, and all in the LDM layout, have 1×1 convolutions where its attention is linear. */
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

/** CLIP's text model, alone or of a whole CLIP model. */
export function adaptCLIPText({ isWhole }: { isWhole: boolean }): Adapt {
  return without(isWhole ? /^(vision_model\.|visual_projection\.|text_projection\.|logit_scale$)/ : null);
}

/** CLIP's vision model with its projection, alone or of a whole CLIP model. */
export function adaptCLIPVision({ isWhole }: { isWhole: boolean }): Adapt {
  return without(isWhole ? /^(text_model\.|text_projection\.|logit_scale$)/ : null);
}

/** All but the other part, and but the constant 0 … n - 1 that older transformers saved with the weights. */
function without(otherPart: RegExp | null): Adapt {
  return (tensors) => {
    const isUnused = (key: string) =>
      key.endsWith('.embeddings.position_ids') || otherPart?.test(key) === true;
    return {
      tensors: new Map([...tensors].filter(([key]) => !isUnused(key))),
      unused: [...tensors.keys()].filter(isUnused),
    };
  };
}

/** For a message: 'text_model.* (196), logit_scale'. */
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
