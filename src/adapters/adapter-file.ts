/**
 * @file Adapter files, both official forms: `.safetensors` with flat keys, and `.bin` (torch.save) with the
 * dictionaries `image_proj` and `ip_adapter`. In memory, always the flat keys.
 */
import { CheckpointError } from '../base/errors.js';
import { readSafetensors, readTorchZip, writeSafetensors, writeTorchZip } from '../formats/index.js';
import { Tensor } from '../torch/index.js';
import { describeAdapter } from './kinds.js';

const parts = ['image_proj', 'ip_adapter'] as const;

/**
 * The tensors of an adapter file by their flat keys: `image_proj.latents`, `ip_adapter.1.to_k_ip.weight`, …
 * @throws CheckpointError where the file is missing, damaged, or holds no adapter
 */
export function readAdapter(path: string): Map<string, Tensor> {
  const tensors = path.endsWith('.safetensors')
    ? readSafetensors(path).tensors
    : flatten(path, readTorchZip(path));
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

/** Writes the form that the name's ending asks for. */
export function writeAdapter(path: string, tensors: ReadonlyMap<string, Tensor>): void {
  if (path.endsWith('.safetensors')) {
    writeSafetensors(path, tensors, { format: 'pt' });
    return;
  }
  const nested = parts.map((part) => {
    const own = [...tensors].filter(([key]) => key.startsWith(`${part}.`));
    return [part, new Map(own.map(([key, value]) => [key.slice(part.length + 1), value]))] as const;
  });
  writeTorchZip(path, Object.fromEntries(nested));
}
