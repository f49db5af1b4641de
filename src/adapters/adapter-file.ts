/**
 * @file Adapter files, both official forms: `.safetensors` with flat keys, and `.bin` (torch.save) with the
 * dictionaries `image_proj` and `ip_adapter`. In memory, always the flat keys. Checkpoints of the original's training, of
 * either ending, are read too.
 */
import { CheckpointError } from '../base/errors.js';
import { readSafetensors, readTorchZip, writeSafetensors, writeTorchZip } from '../formats/index.js';
import { Tensor } from '../torch/index.js';
import { adapterMetadata, type TrainedWith, trainedWithOf } from './adapter-metadata.js';
import { describeAdapter } from './kinds.js';
import { adapterOfCheckpoint, isTrainedKey } from './training-checkpoint.js';

const parts = ['image_proj', 'ip_adapter'] as const;

/**
 * Returns the tensors of an adapter file by their flat keys: `image_proj.latents`, `ip_adapter.1.to_k_ip.weight`, …
 * @throws CheckpointError where the file is missing, damaged, or holds no adapter
 */
export function readAdapter(path: string): Map<string, Tensor> {
  const tensors = trainedOnly(path.endsWith('.safetensors') ? readSafetensors(path).tensors : readBin(path));
  if (describeAdapter(tensors) === null)
    throw new CheckpointError(
      `Expected an IP-Adapter in ${path} but its keys are ${shown([...tensors.keys()])}; the keys of one begin with ${parts.join('. and ')}.`,
    );
  return tensors;
}

function shown(keys: string[]): string {
  return keys.length > 4
    ? `${keys.slice(0, 4).join(', ')} and ${keys.length - 4} more`
    : keys.join(', ') || 'none';
}

/** Returns the adapter's part of a training checkpoint by the official keys; other tensors as they are. */
function trainedOnly(tensors: Map<string, Tensor>): Map<string, Tensor> {
  const adapter = adapterOfCheckpoint(tensors);
  if (adapter === null) return tensors;
  const kept = new Set(adapter.values());
  for (const tensor of tensors.values()) if (!kept.has(tensor)) tensor.dispose();
  return adapter;
}

function readBin(path: string): Map<string, Tensor> {
  const isNeeded = (key: unknown): boolean => typeof key !== 'string' || isTrainedKey(key);
  const content = readTorchZip(path, 'refuse', isNeeded);
  const isFlat = (map: Map<unknown, unknown>): map is Map<string, Tensor> =>
    [...map].every(([key, value]) => typeof key === 'string' && value instanceof Tensor);
  return content instanceof Map && content.size > 0 && isFlat(content) ? content : flatten(path, content);
}

function flatten(path: string, content: unknown): Map<string, Tensor> {
  const flat = new Map<string, Tensor>();
  for (const part of parts) {
    const dictionary = content instanceof Map ? content.get(part) : undefined;
    if (!(dictionary instanceof Map))
      throw new CheckpointError(
        `Expected the dictionaries ${parts.join(' and ')} in ${path} but there is no ${part}; is it an IP-Adapter?`,
      );
    for (const [key, value] of dictionary)
      if (typeof key === 'string' && value instanceof Tensor) flat.set(`${part}.${key}`, value);
  }
  return flat;
}

/** Returns what an adapter was trained with, as far as its file says. */
export function trainedWith(path: string): TrainedWith {
  if (!path.endsWith('.safetensors')) return {};
  const { tensors, metadata } = readSafetensors(path);
  for (const mapped of tensors.values()) mapped.dispose();
  return trainedWithOf(metadata);
}

/**
 * Writes the form that the name's ending asks for.
 * @param trained what the adapter was trained with, where it is known; a `.bin` has no place for it
 */
export function writeAdapter(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
  trained?: TrainedWith,
): void {
  if (path.endsWith('.safetensors')) {
    writeSafetensors(path, tensors, adapterMetadata(tensors, trained));
    return;
  }
  const nested = parts.map((part) => {
    const own = [...tensors].filter(([key]) => key.startsWith(`${part}.`));
    return [part, new Map(own.map(([key, value]) => [key.slice(part.length + 1), value]))] as const;
  });
  writeTorchZip(path, Object.fromEntries(nested));
}
