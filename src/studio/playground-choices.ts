/** @file What the playground can choose from: the checkpoints of runs, and the models in the studio's folders. */
import { existsSync } from 'node:fs';
import { join, relative } from 'node:path';
import { adapterFile, listCheckpoints, stepOf } from '../adapters/adapter-path.js';
import { promptOptionsSchema } from '../options/generate-options.js';
import type { StudioFolders } from './folders.js';
import { findModels } from './playground-models.js';
import { type Runs, recordedOptions } from './runs.js';

export interface PlaygroundChoices {
  /** Of runs, the newest checkpoint first; and adapter files. */
  adapters: AdapterChoice[];
  models: string[];
  imageEncoders: string[];
  loras: string[];
  controlnets: string[];
  samplers: readonly string[];
}

export interface AdapterChoice {
  path: string;
  /** The run, or the folder of models. */
  group: string;
  name: string;
  /** What it was trained with, as far as is known. */
  model?: string;
  imageEncoder?: string;
  /** Of a checkpoint. */
  step?: number;
}

export async function choicesOf(runs: Runs, folders: StudioFolders): Promise<PlaygroundChoices> {
  const adapters: AdapterChoice[] = [];
  const models = new Set<string>();
  const imageEncoders = new Set<string>();
  const loras: string[] = [];
  const controlnets: string[] = [];
  for (const id of await runs.ids()) {
    const folder = join(runs.folder, id);
    const options = (await recordedOptions(folder)) ?? {};
    const textOf = (name: string): string | undefined =>
      typeof options[name] === 'string' ? options[name] : undefined;
    const model = textOf('model');
    const imageEncoder = textOf('image_encoder') ?? textOf('imageEncoder');
    if (model !== undefined) models.add(model);
    if (imageEncoder !== undefined) imageEncoders.add(imageEncoder);
    for (const checkpoint of listCheckpoints(folder).reverse()) {
      const path = join(checkpoint, adapterFile);
      if (!existsSync(path)) continue;
      const step = stepOf(checkpoint);
      const trained = { ...(model && { model }), ...(imageEncoder && { imageEncoder }) };
      adapters.push({ path, group: id, name: `step ${step}`, step, ...trained });
    }
  }
  for (const root of folders.models) {
    const found = await findModels(root);
    adapters.push(...found.adapter.map((path) => ({ path, group: root, name: relative(root, path) })));
    for (const path of found.model) models.add(path);
    for (const path of found.imageEncoder) imageEncoders.add(path);
    loras.push(...found.lora);
    controlnets.push(...found.controlnet);
  }
  return {
    adapters,
    models: [...models],
    imageEncoders: [...imageEncoders],
    loras,
    controlnets,
    samplers: promptOptionsSchema.shape.scheduler.unwrap().options,
  };
}
