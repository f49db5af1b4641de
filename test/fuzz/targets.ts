/** @file Every kind of foreign bytes that is read, and its share of a fuzzing run. */
import * as datasets from './datasets.js';
import { imageTarget } from './images.js';
import * as models from './models.js';
import { optionsTargets } from './options.js';
import { safetensorsTarget } from './safetensors.js';
import type { TargetFactory } from './target.js';
import * as texts from './texts.js';
import { adapterPickleTarget, pickleTarget, torchZipTarget } from './torch-zip.js';

interface Kind {
  create: TargetFactory;
  /** Relative to the others'. */
  share: number;
}

const group = (share: number, targets: Record<string, TargetFactory>): [string, Kind][] =>
  Object.entries(targets).map(([name, create]) => [name, { create, share }]);

/** Binary formats, where a fault can crash the process, have most of a run. */
export const kinds: ReadonlyMap<string, Kind> = new Map([
  ...group(16, {
    safetensors: safetensorsTarget,
    'torch zip': torchZipTarget,
    pickle: pickleTarget,
    images: imageTarget,
  }),
  ...group(6, {
    'dataset JSON': datasets.jsonTarget,
    'dataset JSONL': datasets.jsonLinesTarget,
    'dataset tar': datasets.tarTarget,
    'dataset Parquet': datasets.parquetTarget,
    'dataset folder': datasets.folderTarget,
    captions: texts.captionTarget,
    ...optionsTargets,
    'adapter .safetensors': models.adapterTarget,
    'checkpoint state': models.checkpointStateTarget,
    'checkpoint optimizer': models.checkpointOptimizerTarget,
  }),
  ...group(3, {
    'adapter .bin': adapterPickleTarget,
    'single file': models.singleFileTarget,
    'cache shard': models.cacheTarget,
    'processor config': texts.processorTarget,
    'scheduler config': texts.schedulerTarget,
    ...texts.tokenizerTargets(),
    ...models.modelTargets(),
  }),
]);
