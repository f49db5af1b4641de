/** @file What the playground can choose from: the checkpoints of runs, and the models in the studio's folders. */
import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { adapterFile, listCheckpoints, stepOf } from '../adapters/adapter-path.js';
import { promptOptionsSchema } from '../options/generate-options.js';
import type { StudioFolders } from './folders.js';
import { type Runs, recordedOptions } from './runs.js';

const MAX_DEPTH = 3;
/** Folders that are looked into. */
const MAX_FOLDERS = 2000;
/** A file of a whole model is not smaller. */
const MODEL_BYTES = 2 ** 29;

export interface PlaygroundChoices {
  /** Of runs, the newest checkpoint first; and adapter files. */
  adapters: AdapterChoice[];
  models: string[];
  imageEncoders: string[];
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
  const found = {
    adapters: [] as AdapterChoice[],
    models: new Set<string>(),
    imageEncoders: new Set<string>(),
  };
  for (const id of await runs.ids()) {
    const folder = join(runs.folder, id);
    const options = (await recordedOptions(folder)) ?? {};
    const textOf = (name: string): string | undefined =>
      typeof options[name] === 'string' ? options[name] : undefined;
    const model = textOf('model');
    const imageEncoder = textOf('image_encoder') ?? textOf('imageEncoder');
    if (model !== undefined) found.models.add(model);
    if (imageEncoder !== undefined) found.imageEncoders.add(imageEncoder);
    for (const checkpoint of listCheckpoints(folder).reverse()) {
      const path = join(checkpoint, adapterFile);
      if (!existsSync(path)) continue;
      const step = stepOf(checkpoint);
      const trained = { ...(model && { model }), ...(imageEncoder && { imageEncoder }) };
      found.adapters.push({ path, group: id, name: `step ${step}`, step, ...trained });
    }
  }
  for (const root of folders.models) await findModels(root, found);
  return {
    adapters: found.adapters,
    models: [...found.models],
    imageEncoders: [...found.imageEncoders],
    samplers: promptOptionsSchema.shape.scheduler.unwrap().options,
  };
}

async function findModels(
  root: string,
  {
    adapters,
    models,
    imageEncoders,
  }: { adapters: AdapterChoice[]; models: Set<string>; imageEncoders: Set<string> },
): Promise<void> {
  let visited = 0;
  const visit = async (folder: string, depth: number): Promise<void> => {
    if (++visited > MAX_FOLDERS) return;
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    const has = (name: string): boolean => entries.some((entry) => entry.name === name);
    const isModel = has('unet') && has('vae');
    if (isModel) models.add(folder);
    // An encoder's folder has a configuration beside its weights; text encoders have such ones too.
    if (
      has('config.json') &&
      /image_encoder|vision|clip|dino|siglip/i.test(folder) &&
      !/text_encoder|unet|vae/.test(folder)
    )
      imageEncoders.add(folder);
    for (const entry of entries) {
      const path = join(folder, entry.name);
      if (
        entry.isDirectory() &&
        depth < MAX_DEPTH &&
        !/^\.|^checkpoint-|^(unet|vae|scheduler)$/.test(entry.name)
      )
        await visit(path, depth + 1);
      if (!entry.isFile() || !/\.(safetensors|bin|ckpt)$/.test(entry.name)) continue;
      if (/ip.?adapter/i.test(entry.name)) adapters.push({ path, group: root, name: relative(root, path) });
      else if (
        !isModel &&
        !entry.name.endsWith('.bin') &&
        !has('config.json') &&
        (await stat(path)).size > MODEL_BYTES
      )
        models.add(path);
    }
  };
  await visit(root, 0);
}
