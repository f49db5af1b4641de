/** @file The models of a pipeline, from the user's folders; what does not go together is found before the first image. */
import type { z } from 'zod';
import { adapterFileOf } from '../adapters/adapter-path.js';
import { type ImageEncoder, openImageEncoder } from '../adapters/image-encoder.js';
import { assertFeaturesFit, type OpenedAdapter, openAdapter } from '../adapters/open-adapter.js';
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
  extends Pick<DiffusionModel, 'family' | 'latents' | 'imageSize' | 'absentNegative' | 'sizeConditioning'>,
    Disposable {
  backbone: Backbone;
  vae: AutoencoderKL;
  textEncoder: TextEncoder;
  tokenizer: PromptTokenizer;
  scheduler: SchedulerFile;
  imageEncoder: ImageEncoder | undefined;
  adapter: OpenedAdapter | undefined;
  device: Device;
  dtype: DType;
}

/** @throws ConfigError, CheckpointError where a file is missing or damaged, or parts do not go together */
export function loadPipelineModels(options: z.output<typeof pipelineOptionsSchema>): PipelineModels {
  const target = resolveTarget(options);
  // Cheap faults come first: the small files are read before the weights.
  const model = openDiffusionModel(options.model);
  const scheduler = model.schedulerFile();
  const tokenizer = model.tokenizer();
  const encoderSource =
    options.imageEncoder === undefined ? undefined : openImageEncoder(options.imageEncoder);
  const backbone = model.loadBackbone(target);
  const adapter =
    options.adapter === undefined ? undefined : openAdapter(adapterFileOf(options.adapter), backbone.sites);
  if (adapter && encoderSource)
    assertFeaturesFit(adapter, encoderSource.widths[adapter.kind.feature], encoderSource.folder);
  adapter?.module.to(target);
  const imageEncoder = encoderSource?.load(target);
  const vae = model.loadVAE(target);
  const textEncoder = model.loadTextEncoder(target);
  const { family, latents, imageSize, absentNegative, sizeConditioning } = model;
  return {
    ...{ family, latents, imageSize, absentNegative, sizeConditioning },
    ...{ backbone, vae, textEncoder, tokenizer, scheduler, imageEncoder, adapter },
    ...target,
    [Symbol.dispose]: () => {
      for (const part of [backbone, textEncoder, imageEncoder, vae, adapter?.module])
        part?.[Symbol.dispose]();
    },
  };
}
