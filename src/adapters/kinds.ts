/** @file All kinds of adapters, and the detection of a file's kind. */
import type { Tensor } from '../torch/index.js';
import { base } from './base.js';
import { faceId, faceIdPlus } from './faceid.js';
import { fullFace } from './full-face.js';
import type { AdapterKind, ProjectionShapes, ProjectionSizes } from './kind.js';
import { plus } from './plus.js';

export const kinds: readonly AdapterKind[] = [plus, base, fullFace, faceId, faceIdPlus];

/** The families of Stable Diffusion by the width of their cross-attention's context. */
export const families = new Map([
  [768, 'Stable Diffusion 1.x'],
  [1024, 'Stable Diffusion 2.x'],
  [2048, 'Stable Diffusion XL'],
]);

export interface AdapterDescription {
  kind: AdapterKind;
  /** The sizes that the shapes determine. */
  sizes: Partial<ProjectionSizes>;
  /** The numbers N in the keys `ip_adapter.N.`, sorted. */
  layers: number[];
  /** The shapes of the projection's tensors, by keys without `image_proj.`. */
  shapes: ProjectionShapes;
}

/**
 * Describes the adapter that a file holds; null where it holds none.
 * @param tensors the tensors by their official keys: `image_proj.latents`, `ip_adapter.1.to_k_ip.weight`, …
 */
export function describeAdapter(tensors: ReadonlyMap<string, Tensor>): AdapterDescription | null {
  const prefix = 'image_proj.';
  const shapes = new Map(
    [...tensors]
      .filter(([key]) => key.startsWith(prefix))
      .map(([key, { shape }]) => [key.slice(prefix.length), shape]),
  );
  const numbers = [...tensors.keys()].flatMap((key) => /^ip_adapter\.(\d+)\./.exec(key)?.[1] ?? []);
  const layers = [...new Set(numbers.map(Number))].sort((a, b) => a - b);
  const kind = kinds.find(({ detect }) => detect(shapes));
  return kind === undefined || layers.length === 0
    ? null
    : { kind, sizes: kind.sizes(shapes), layers, shapes };
}
