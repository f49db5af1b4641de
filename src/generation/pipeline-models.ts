/** @file Loads the models of a pipeline; parts that do not go together are found before the first image. */
import type { z } from 'zod';
import type { ControlNet } from '../diffusion/controlnet.js';
import { openLoras } from '../diffusion/loras.js';
import type {
  AutoencoderKL,
  Backbone,
  DiffusionModel,
  PromptTokenizer,
  TextEncoder,
} from '../diffusion/model.js';
import { openDiffusionModel } from '../diffusion/open-model.js';
import type { pipelineOptionsSchema } from '../options/generate-options.js';
import type { AdapterFiles } from '../options/generate-types.js';
import type { SchedulerFile } from '../schedulers/config.js';
import type { Device, DType } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';
import { openAdapters, type PipelineAdapter, releaseAdapters } from './pipeline-adapters.js';

export interface PipelineModels
  extends Pick<
      DiffusionModel,
      'family' | 'latents' | 'imageSize' | 'takesMask' | 'absentNegative' | 'sizeConditioning'
    >,
    Disposable {
  backbone: Backbone;
  vae: AutoencoderKL;
  textEncoder: TextEncoder;
  tokenizer: PromptTokenizer;
  scheduler: SchedulerFile;
  readonly adapters: readonly PipelineAdapter[];
  /** Loads other adapters in their place; where that fails, they stay. @throws as `loadPipelineModels` */
  replaceAdapters(entries: readonly AdapterFiles[], onMessage?: (text: string) => void): void;
  controlnets: readonly ControlNet[];
  device: Device;
  dtype: DType;
}

/** The options of a pipeline, its short forms resolved. */
export interface ResolvedPipelineOptions
  extends Pick<z.output<typeof pipelineOptionsSchema>, 'model' | 'loras' | 'device' | 'dtype' | 'threads'> {
  adapters: readonly AdapterFiles[];
  controlnet?: readonly string[] | undefined;
}

/**
 * Loads the models.
 * @throws ConfigError, CheckpointError where a file is missing or damaged, or parts do not go together
 */
export function loadPipelineModels(
  {
    model: modelPath,
    loras: loraSources = [],
    adapters: entries,
    controlnet = [],
    ...options
  }: ResolvedPipelineOptions,
  onMessage?: (text: string) => void,
): PipelineModels {
  const target = resolveTarget(options);
  // Cheap faults come first: the small files are read before the weights.
  using loras = openLoras(loraSources);
  const model = openDiffusionModel(modelPath, loras);
  const scheduler = model.schedulerFile();
  const tokenizer = model.tokenizer();
  const loadAdapters = openAdapters(entries);
  const loadControlnets = controlnet.map((nameOrPath) => model.openControlNet(nameOrPath));
  const backbone = model.loadBackbone(target);
  const { sites } = backbone;
  let loaded = loadAdapters({ sites, target, onMessage });
  const controlnets = loadControlnets.map((load) => load(target));
  const vae = model.loadVAE(target);
  const textEncoder = model.loadTextEncoder(target);
  loras.finish(model.family, onMessage);
  const { family, latents, imageSize, takesMask, absentNegative, sizeConditioning } = model;
  return {
    ...{ family, latents, imageSize, takesMask, absentNegative, sizeConditioning },
    ...{ backbone, vae, textEncoder, tokenizer, scheduler, controlnets },
    ...target,
    get adapters() {
      return loaded.adapters;
    },
    replaceAdapters: (others, onOthers) => {
      const { encoders } = loaded;
      const next = openAdapters(others)({ sites, target, encoders, onMessage: onOthers });
      releaseAdapters(loaded, next.encoders);
      loaded = next;
    },
    [Symbol.dispose]: () => {
      releaseAdapters(loaded);
      for (const part of [backbone, textEncoder, vae, ...controlnets]) part[Symbol.dispose]();
    },
  };
}
