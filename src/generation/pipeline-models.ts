/** @file Loads the models of a pipeline; parts that do not go together are found before the first image. */
import { existsSync, realpathSync } from 'node:fs';
import type { z } from 'zod';
import { adapterFileOf } from '../adapters/adapter-path.js';
import { type ImageEncoder, openImageEncoder } from '../adapters/image-encoder.js';
import { assertEncoderFits, type OpenedAdapter, openAdapter } from '../adapters/open-adapter.js';
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
import type { SchedulerFile } from '../schedulers/config.js';
import type { Device, DType } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';

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
  adapters: readonly PipelineAdapter[];
  controlnets: readonly ControlNet[];
  device: Device;
  dtype: DType;
}

/** An adapter with the encoder of its images, which adapters may share. */
export interface PipelineAdapter extends OpenedAdapter {
  imageEncoder: ImageEncoder | undefined;
}

/** The options of a pipeline, its short forms resolved. */
export interface ResolvedPipelineOptions
  extends Pick<z.output<typeof pipelineOptionsSchema>, 'model' | 'loras' | 'device' | 'dtype' | 'threads'> {
  adapters: readonly { adapter: string; imageEncoder?: string | undefined }[];
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
  const sources = entries.map(({ imageEncoder }) =>
    imageEncoder === undefined ? undefined : openImageEncoder(imageEncoder),
  );
  const loadControlnets = controlnet.map((nameOrPath) => model.openControlNet(nameOrPath));
  const backbone = model.loadBackbone(target);
  /** By file, each loaded once: one adapter may have several prompts. */
  const modules = new Map<string, OpenedAdapter>();
  const opened = entries.map(({ adapter }, i) => {
    const file = adapterFileOf(adapter, onMessage);
    const path = existsSync(file) ? realpathSync(file) : file;
    const one = modules.get(path) ?? openAdapter(file, backbone.sites);
    const source = sources[i];
    if (source !== undefined) assertEncoderFits(one, source);
    if (!modules.has(path)) one.module.to(target);
    modules.set(path, one);
    return one;
  });
  /** By folder, each loaded once. */
  const encoders = new Map<string, ImageEncoder>();
  const adapters = opened.map((one, i) => {
    const source = sources[i];
    if (source === undefined) return { ...one, imageEncoder: undefined };
    const folder = realpathSync(source.folder);
    const imageEncoder = encoders.get(folder) ?? source.load(target);
    encoders.set(folder, imageEncoder);
    return { ...one, imageEncoder };
  });
  const controlnets = loadControlnets.map((load) => load(target));
  const vae = model.loadVAE(target);
  const textEncoder = model.loadTextEncoder(target);
  loras.finish(model.family, onMessage);
  const { family, latents, imageSize, takesMask, absentNegative, sizeConditioning } = model;
  return {
    ...{ family, latents, imageSize, takesMask, absentNegative, sizeConditioning },
    ...{ backbone, vae, textEncoder, tokenizer, scheduler, adapters, controlnets },
    ...target,
    [Symbol.dispose]: () => {
      const opened = Array.from(modules.values(), ({ module }) => module);
      for (const part of [backbone, textEncoder, ...encoders.values(), vae, ...opened, ...controlnets])
        part[Symbol.dispose]();
    },
  };
}
