/** @file The files that each kind of model is loaded from: what is downloaded of a repository, and what must be in the cache. */
import { existsSync } from 'node:fs';
import { posix } from 'node:path';
import { diffusersWeights, shardsOf, transformersWeights, weightForms } from '../weights/weight-files.js';

/** Files of which one group is needed: the first that is there whole. An empty group means that it can be done without. */
export type Need = readonly (readonly string[])[];

const one = (name: string): Need => [[name]];
const optional = (name: string): Need => [[name], []];
const weights = (names: Parameters<typeof weightForms>[0]): Need => weightForms(names).map((form) => [form]);
const within = (folder: string, needs: readonly Need[]): Need[] =>
  needs.map((need) => need.map((group) => group.map((name) => posix.join(folder, name))));

const tokenizerSettings = [optional('tokenizer_config.json'), optional('special_tokens_map.json')];
const vocabulary: Need = [['tokenizer.json'], ['vocab.json', 'merges.txt']];
const tokenizer: readonly Need[] = [...tokenizerSettings, vocabulary];

// Weights are last, so that an unfinished download has the small files.
const stableDiffusion: readonly Need[] = [
  optional('model_index.json'),
  one('scheduler/scheduler_config.json'),
  ...within('tokenizer', tokenizer),
  ...['text_encoder', 'vae', 'unet'].map((part) => one(`${part}/config.json`)),
  ...within('text_encoder', [weights(transformersWeights)]),
  ...['vae', 'unet'].flatMap((part) => within(part, [weights(diffusersWeights)])),
];

// A whole CLIP has a tokenizer, with which it measures.
const imageEncoder: readonly Need[] = [
  one('config.json'),
  optional('preprocessor_config.json'),
  ...tokenizerSettings,
  [...vocabulary, []],
  weights(transformersWeights),
];

/** Its tokenizer is where transformers has it, or where diffusers has it. */
const textEncoder: readonly Need[] = [
  one('config.json'),
  ...['.', '../tokenizer'].flatMap((folder) => within(folder, tokenizerSettings)),
  ['.', '../tokenizer'].flatMap((folder) => within(folder, [vocabulary]).flat()),
  weights(transformersWeights),
];

const adapter = one('ip_adapter.safetensors');

const kinds = { stableDiffusion, imageEncoder, textEncoder, tokenizer, adapter: [adapter] };

export type ModelKind = keyof typeof kinds;

/** @param inside where in its repository the model is: a folder, '' for all of it, or a file of weights */
export function neededFiles(kind: ModelKind, inside: string): Need[] {
  return /\.(safetensors|ckpt|bin)$/.test(inside) ? [one(inside)] : within(inside, kinds[kind]);
}

/** The group that is used where `has` tells which files there are; undefined where none is whole. */
export function chosenGroup(need: Need, has: (file: string) => boolean): readonly string[] | undefined {
  return need.find((group) => group.every(has));
}

/** Whether all is there that is needed, shards of weights included. */
export function isComplete(snapshot: string, needs: readonly Need[]): boolean {
  const has = (file: string): boolean => existsSync(posix.join(snapshot, file));
  return needs.every((need) => {
    const group = chosenGroup(need, has);
    return group?.every((file) => shardsIn(snapshot, file).every(has)) ?? false;
  });
}

/** The shards that a file lists, as files of the snapshot; none where it is no index of weights. */
export function shardsIn(snapshot: string, file: string): string[] {
  if (!/\.index(\.fp16)?\.json$/.test(file)) return [];
  return shardsOf(posix.join(snapshot, file)).map((shard) => posix.join(posix.dirname(file), shard));
}
