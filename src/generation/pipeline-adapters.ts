/** @file Loads the adapters of a pipeline with the encoders of their images, beside a model that stays when others replace them. */
import { existsSync, realpathSync } from 'node:fs';
import { adapterFileOf } from '../adapters/adapter-path.js';
import { type ImageEncoder, openImageEncoder } from '../adapters/image-encoder.js';
import { assertEncoderFits, type OpenedAdapter, openAdapter } from '../adapters/open-adapter.js';
import type { Backbone } from '../diffusion/model.js';
import type { AdapterFiles } from '../options/generate-types.js';
import type { Device, DType } from '../torch/index.js';

/** An adapter with the encoder of its images, which adapters may share. */
export interface PipelineAdapter extends OpenedAdapter {
  imageEncoder: ImageEncoder | undefined;
}

export interface LoadedAdapters {
  adapters: readonly PipelineAdapter[];
  /** By folder, each loaded once. */
  encoders: ReadonlyMap<string, ImageEncoder>;
}

/** What adapters are loaded beside. */
interface Beside {
  sites: Backbone['sites'];
  target: { device: Device; dtype: DType };
  /** Those that are loaded already are used again. */
  encoders?: LoadedAdapters['encoders'];
  onMessage?: ((text: string) => void) | undefined;
}

/**
 * Opens the image encoders without their weights.
 * @returns what loads the adapters and the encoders
 * @throws ConfigError, CheckpointError where a file is missing or damaged, or adapter and encoder do not go together
 */
export function openAdapters(entries: readonly AdapterFiles[]): (beside: Beside) => LoadedAdapters {
  const sources = entries.map(({ imageEncoder }) =>
    imageEncoder === undefined ? undefined : openImageEncoder(imageEncoder),
  );
  return ({ sites, target, encoders: ready = new Map<string, ImageEncoder>(), onMessage }) => {
    /** By file, each loaded once: one adapter may have several prompts. */
    const modules = new Map<string, OpenedAdapter>();
    const opened = entries.map(({ adapter }, i) => {
      const file = adapterFileOf(adapter, onMessage);
      const path = existsSync(file) ? realpathSync(file) : file;
      const one = modules.get(path) ?? openAdapter(file, sites);
      const source = sources[i];
      if (source !== undefined) assertEncoderFits(one, source);
      if (!modules.has(path)) one.module.to(target);
      modules.set(path, one);
      return one;
    });
    const encoders = new Map<string, ImageEncoder>();
    const adapters = opened.map((one, i) => {
      const source = sources[i];
      if (source === undefined) return { ...one, imageEncoder: undefined };
      const folder = realpathSync(source.folder);
      const imageEncoder = encoders.get(folder) ?? ready.get(folder) ?? source.load(target);
      encoders.set(folder, imageEncoder);
      return { ...one, imageEncoder };
    });
    return { adapters, encoders };
  };
}

/** Releases adapters and their encoders. @param kept encoders that are still needed */
export function releaseAdapters(
  { adapters, encoders }: LoadedAdapters,
  kept: LoadedAdapters['encoders'] = new Map(),
): void {
  for (const module of new Set(adapters.map((one) => one.module))) module[Symbol.dispose]();
  const needed = new Set(kept.values());
  for (const encoder of encoders.values()) if (!needed.has(encoder)) encoder[Symbol.dispose]();
}
