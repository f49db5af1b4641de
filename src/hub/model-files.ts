/** @file The files that each kind of model needs from a repository. */
import { existsSync } from 'node:fs';
import { posix } from 'node:path';
import { diffusersWeights, shardsOf, transformersWeights, weightForms } from '../weights/weight-files.js';

/** Alternative groups of files; the first complete group is used. An empty group means that the files are optional. */
export type Need = readonly (readonly string[])[];

const one = (name: string): Need => [[name]];
const optional = (name: string): Need => [[name], []];
const weights = (names: Parameters<typeof weightForms>[0]): Need => weightForms(names).map((form) => [form]);
const within = (folder: string, needs: readonly Need[]): Need[] =>
  needs.map((need) => need.map((group) => group.map((name) => posix.join(folder, name))));

const tokenizerSettings = [optional('tokenizer_config.json'), optional('special_tokens_map.json')];
const vocabulary: Need = [['tokenizer.json'], ['vocab.json', 'merges.txt']];
const tokenizer: readonly Need[] = [...tokenizerSettings, vocabulary];

// Weights are last, so that an interrupted download has the small files.
const stableDiffusion: readonly Need[] = [
  optional('model_index.json'),
  one('scheduler/scheduler_config.json'),
  ...within('tokenizer', tokenizer),
  ...['text_encoder', 'vae', 'unet'].map((part) => one(`${part}/config.json`)),
  ...within('text_encoder', [weights(transformersWeights)]),
  ...['vae', 'unet'].flatMap((part) => within(part, [weights(diffusersWeights)])),
];

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

const kinds = { stableDiffusion, imageEncoder, textEncoder, tokenizer, adapter: [adapter] };

export type ModelKind = keyof typeof kinds;

/** Returns the files to download. @param inside the model's folder in its repository, '' for the whole, or a weights file */
export function neededFiles(kind: ModelKind, inside: string): Need[] {
  return /\.(safetensors|ckpt|bin)$/.test(inside) ? [one(inside)] : within(inside, kinds[kind]);
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
