/** @file The files that each kind of model needs from a repository. */
import { existsSync } from 'node:fs';
import { posix } from 'node:path';
import { CheckpointError } from '../base/errors.js';
import { readJsonObject } from '../base/json.js';
import { diffusersWeights, shardsOf, transformersWeights, weightForms } from '../weights/weight-files.js';

/** Alternative groups of files; the first complete group is used. An empty group means that the files are optional. */
export type Need = readonly (readonly string[])[];

const one = (name: string): Need => [[name]];
const optional = (name: string): Need => [[name], []];
const weights = (names: Parameters<typeof weightForms>[0]): Need => weightForms(names).map((form) => [form]);
const within = (folder: string, needs: readonly Need[]): Need[] =>
  needs.map((need) => need.map((group) => group.map((name) => posix.join(folder, name))));

const modelIndex = 'model_index.json';

const tokenizerSettings = [optional('tokenizer_config.json'), optional('special_tokens_map.json')];
const vocabulary: Need = [['tokenizer.json'], ['vocab.json', 'merges.txt']];
const tokenizer: readonly Need[] = [...tokenizerSettings, vocabulary];

/**
 * Weights are last, so that an interrupted download has the small files.
 * @param isXL whether it has SDXL's second text encoder
 */
function stableDiffusion(isXL: boolean): readonly Need[] {
  const second = isXL ? ['_2'] : [];
  const [tokenizers, textEncoders] = ['tokenizer', 'text_encoder'].map((part) =>
    ['', ...second].map((ending) => part + ending),
  ) as [string[], string[]];
  return [
    optional(modelIndex),
    one('scheduler/scheduler_config.json'),
    ...tokenizers.flatMap((part) => within(part, tokenizer)),
    ...[...textEncoders, 'vae', 'unet'].map((part) => one(`${part}/config.json`)),
    ...textEncoders.flatMap((part) => within(part, [weights(transformersWeights)])),
    ...['vae', 'unet'].flatMap((part) => within(part, [weights(diffusersWeights)])),
  ];
}

// A whole CLIP model has a tokenizer, which evaluation needs.
const imageEncoder: readonly Need[] = [
  one('config.json'),
  optional('preprocessor_config.json'),
  ...tokenizerSettings,
  [...vocabulary, []],
  weights(transformersWeights),
];

/** The tokenizer is in the same folder, as in transformers, or in `../tokenizer`, as in diffusers. */
const textEncoder: readonly Need[] = [
  one('config.json'),
  ...['.', '../tokenizer'].flatMap((folder) => within(folder, tokenizerSettings)),
  ['.', '../tokenizer'].flatMap((folder) => within(folder, [vocabulary]).flat()),
  weights(transformersWeights),
];

const adapter = one('ip_adapter.safetensors');
/** As diffusers names it. */
const lora = one('pytorch_lora_weights.safetensors');

const controlnet: readonly Need[] = [one('config.json'), weights(diffusersWeights)];

const kinds = { imageEncoder, textEncoder, tokenizer, adapter: [adapter], lora: [lora], controlnet };

export type ModelKind = keyof typeof kinds | 'stableDiffusion';

const isFile = (inside: string): boolean => /\.(safetensors|ckpt|bin|pth)$/.test(inside);

/** Returns the file to download first, which says what others are needed; null where a model needs the same files always. */
export function indexFile(kind: ModelKind, inside: string): string | null {
  return kind === 'stableDiffusion' && !isFile(inside) ? posix.join(inside, modelIndex) : null;
}

/**
 * Returns the files to download.
 * @param inside the model's folder in its repository, '' for the whole, or a weights file
 * @param snapshot the folder with the files that are here, where the index file is read; null where nothing is here
 * @throws CheckpointError where the index file is damaged, or is one of a model that is not supported
 */
export function neededFiles(kind: ModelKind, inside: string, snapshot: string | null): Need[] {
  if (isFile(inside)) return [one(inside)];
  if (kind !== 'stableDiffusion') return within(inside, kinds[kind]);
  return within(inside, stableDiffusion(snapshot !== null && isXL(posix.join(snapshot, inside, modelIndex))));
}

function isXL(indexFile: string): boolean {
  if (!existsSync(indexFile)) return false;
  const parts = readJsonObject(indexFile, CheckpointError);
  // diffusers writes a part as [library, class], and [null, null] for one that a pipeline was saved without.
  const [has, lacks] = [
    isPart(parts.text_encoder_2),
    Array.isArray(parts.text_encoder) && !isPart(parts.text_encoder),
  ];
  if (has && lacks)
    throw new CheckpointError(
      `${indexFile} has the second text encoder of SDXL and not the first, as the refiner of SDXL; take the base model`,
    );
  return has;
}

function isPart(value: unknown): boolean {
  return Array.isArray(value) && value.every((name) => typeof name === 'string');
}

/** Returns the first group of which `has` reports every file; undefined where none is complete. */
export function chosenGroup(need: Need, has: (file: string) => boolean): readonly string[] | undefined {
  return need.find((group) => group.every(has));
}

/** Whether a snapshot has all needed files, including the shards of weights. */
export function isComplete(snapshot: string, needs: readonly Need[]): boolean {
  const has = (file: string): boolean => existsSync(posix.join(snapshot, file));
  return needs.every((need) => {
    const group = chosenGroup(need, has);
    return group?.every((file) => shardsIn(snapshot, file).every(has)) ?? false;
  });
}

/** Returns the shards that an index lists, as files of the snapshot; none where the file is not an index of weights. */
export function shardsIn(snapshot: string, file: string): string[] {
  if (!/\.index(\.fp16)?\.json$/.test(file)) return [];
  return shardsOf(posix.join(snapshot, file)).map((shard) => posix.join(posix.dirname(file), shard));
}
