/**
 * @file Checkpoints of the original's own training (tencent-ailab/IP-Adapter tutorial_train*.py), which accelerate saves with
 * the whole frozen UNet:
 *
 *     image_proj_model.latents                        the projection
 *     adapter_modules.1.to_k_ip.weight                numbered as in the official files; in pytorch_model.bin only
 *     unet.<site>.attn2.processor.to_k_ip.weight      the same tensor; model.safetensors keeps only this one
 *
 * each with `module.` before it where the model was distributed.
 */
import type { Tensor } from '../torch/index.js';

/** The files of a checkpoint folder. */
export const trainingCheckpointFiles = ['model.safetensors', 'pytorch_model.bin'];

/** Blocks in the order in which diffusers numbers their attention layers. */
const blocks = ['down_blocks', 'up_blocks', 'mid_block'];

/** Whether a key may belong to the adapter, and not only to the frozen UNet. */
export function isTrainedKey(key: string): boolean {
  return !/^(module\.)?unet\./.test(key) || key.includes('.processor.');
}

/**
 * Returns the adapter's tensors by the official keys, in the official order, or null where the tensors are not such a
 * checkpoint.
 * @param tensors by the checkpoint's keys, those of the UNet included: they tell the layers' numbers
 */
export function adapterOfCheckpoint(tensors: ReadonlyMap<string, Tensor>): Map<string, Tensor> | null {
  const unwrapped = Array.from(tensors, ([key, tensor]) => [key.replace(/^module\./, ''), tensor] as const);
  const renamed = (pattern: RegExp, name: (match: RegExpExecArray) => string): [string, Tensor][] =>
    unwrapped.flatMap(([key, tensor]) => {
      const match = pattern.exec(key);
      return match === null ? [] : [[name(match), tensor]];
    });
  const projection = renamed(/^image_proj_model\.(.+)$/, ([, rest]) => `image_proj.${rest}`);
  if (projection.length === 0) return null;
  const numbered = renamed(/^adapter_modules\.(\d+\..+)$/, ([, rest]) => `ip_adapter.${rest}`);
  if (numbered.length > 0) return new Map([...projection, ...numbered]);
  const layers = attentionLayers(unwrapped.map(([key]) => key));
  const named = renamed(
    /^unet\.(.+)\.processor\.(.+)$/,
    ([, layer = '', rest]) => `ip_adapter.${layers.indexOf(layer)}.${rest}`,
  );
  return new Map([...projection, ...named.sort(([a], [b]) => byNumbers(a, b))]);
}

/** Returns the names of a UNet's attention layers, self-attention included, in the order of diffusers' `attn_processors`. */
function attentionLayers(keys: readonly string[]): string[] {
  const layers = keys.flatMap((key) => /^unet\.(.+\.attn\d+)\./.exec(key)?.[1] ?? []);
  const block = (layer: string): number => blocks.findIndex((name) => layer.startsWith(`${name}.`));
  return [...new Set(layers)].sort((a, b) => block(a) - block(b) || byNumbers(a, b));
}

/** Compares names so that `2` comes before `10`. */
function byNumbers(a: string, b: string): number {
  return a.localeCompare(b, 'en', { numeric: true });
}
