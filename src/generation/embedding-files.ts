/**
 * @file Files of image features, which replace the image encoder: ours, those of diffusers (a list with a tensor for each
 * adapter, of `prepare_ip_adapter_image_embeds`: the negative features before the positive ones), and those of
 * ComfyUI_IPAdapter_plus (one tensor, of its node Save IPAdapter Embeds).
 */
import type { ImageFeature } from '../adapters/kind.js';
import { CheckpointError } from '../base/errors.js';
import { readSafetensors, readTorchZip, writeSafetensors, writeTorchZip } from '../formats/index.js';
import { cat, Tensor, tidy } from '../torch/index.js';

/** The features of n images, float32: all that adapters may read. */
export interface ImageFeatures {
  /** The last hidden states but one, [n, patches + 1, hiddenSize]. */
  hiddenStates: Tensor;
  /** The same of zero pixels after normalisation, [1, patches + 1, hiddenSize]. */
  zeroHiddenStates: Tensor;
  /** The embeddings, [n, projectionDim]. */
  embeddings: Tensor;
}

/** The features of a file that one kind of adapter reads. */
export interface FileFeatures {
  /** [n, …] */
  features: Tensor;
  /** For the negative side of guidance, [n, …]; null where the file has none. */
  negatives: Tensor | null;
}

const fileKeys = {
  hiddenStates: 'hidden_states',
  zeroHiddenStates: 'zero_hidden_states',
  embeddings: 'image_embeds',
} as const;

/** Returns whether a source is a file of features, by its name. */
export function isFeaturesFile(source: unknown): source is string {
  return typeof source === 'string' && /\.(safetensors|ipadpt|pt|bin)$/.test(source);
}

/** Writes features as safetensors: `hidden_states`, `zero_hidden_states`, `image_embeds`. */
export function writeImageFeatures(file: string, features: ImageFeatures): void {
  const keys = Object.keys(fileKeys) as (keyof ImageFeatures)[];
  writeSafetensors(file, new Map(keys.map((key) => [fileKeys[key], features[key]])), { format: 'pt' });
}

/** Writes features as diffusers or ComfyUI reads them, with `torch.load`. @param absent what stands for no image, one row */
export function writePeerFeatures(
  file: string,
  format: 'diffusers' | 'comfyui',
  features: Tensor,
  absent: Tensor,
): void {
  if (format === 'comfyui') {
    writeTorchZip(file, features);
    return;
  }
  tidy(() => {
    const [count = 0, ...width] = features.shape;
    const negatives = absent.expand(count, ...width);
    writeTorchZip(file, [cat([negatives, features]).reshape(2, count, ...width)]);
  });
}

/**
 * Reads what an adapter takes of a file. The tensors may be mapped.
 * @throws CheckpointError where the file is another, or has only features that the adapter does not read
 */
export function readFeatures(file: string, feature: ImageFeature): FileFeatures {
  if (!file.endsWith('.safetensors')) return readTorchFeatures(file, feature);
  const { hiddenStates, embeddings } = readImageFeatures(file);
  return { features: feature === 'pooled' ? embeddings : hiddenStates, negatives: null };
}

/** Maps a file of `writeImageFeatures`. @throws CheckpointError where it is another file */
export function readImageFeatures(file: string): ImageFeatures {
  const { tensors } = readSafetensors(file);
  const of = (key: string): Tensor => {
    const found = tensors.get(key);
    if (found !== undefined) return found;
    throw new CheckpointError(
      `Expected ${key} in ${file} but its keys are ${[...tensors.keys()].slice(0, 4).join(', ')}; make such a file with ip-adapter embed.`,
    );
  };
  return {
    hiddenStates: of(fileKeys.hiddenStates),
    zeroHiddenStates: of(fileKeys.zeroHiddenStates),
    embeddings: of(fileKeys.embeddings),
  };
}

function readTorchFeatures(file: string, feature: ImageFeature): FileFeatures {
  const content = readTorchZip(file);
  const list = Array.isArray(content) ? content : [content];
  // ComfyUI's tensor has the features' dimensions; diffusers puts one before them, for the two sides of guidance.
  const ndim = feature === 'pooled' ? 2 : 3;
  const found = list.filter(
    (one): one is Tensor => one instanceof Tensor && (one.ndim === ndim || one.ndim === ndim + 1),
  );
  // Both 3: hidden states of ComfyUI, or embeddings of diffusers.
  const isList = Array.isArray(content);
  const fitting = found.filter((one) => one.ndim === ndim + 1 || !isList);
  if (fitting.length !== 1)
    throw new CheckpointError(
      `Expected one tensor of ${feature === 'pooled' ? 'image embeddings' : 'hidden states'} in ${file} but ${fitting.length === 0 ? 'there is none' : `there are ${fitting.length}`} (it holds ${list.map(described).join(', ')}); give a file that diffusers' prepare_ip_adapter_image_embeds or ComfyUI's Save IPAdapter Embeds made for this adapter alone.`,
    );
  const [tensor] = fitting as [Tensor];
  return tidy(() => {
    const values = tensor.to('float32');
    if (tensor.ndim === ndim) return { features: values, negatives: null };
    const [sides = 0] = values.shape;
    if (sides > 2)
      throw new CheckpointError(
        `Expected negative and positive features in ${file} but its tensor is [${values.shape.join(', ')}]; the first dimension must be 2, or 1 without guidance.`,
      );
    return {
      features: values.select(0, sides - 1).contiguous(),
      negatives: sides === 2 ? values.select(0, 0).contiguous() : null,
    };
  });
}

function described(value: unknown): string {
  return value instanceof Tensor ? `a tensor [${value.shape.join(', ')}]` : typeof value;
}
