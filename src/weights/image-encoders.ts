/** @file The classes of image encoders that can be loaded from transformers' folders, found by config.json's `model_type`. */
import { CheckpointError } from '../base/errors.js';
import { type ProcessorDefaults, processorDefaults } from '../images/image-processor.js';
import { CLIPVisionModelWithProjection, parseCLIPVisionConfig } from '../models/clip/clip-vision-model.js';
import { parseSiglipVisionConfig, SiglipVisionModel } from '../models/clip/siglip-vision-model.js';
import { Dinov2Model, parseDinov2Config } from '../models/dino/dinov2-model.js';
import { parseViTConfig, ViTModel } from '../models/dino/vit-model.js';
import type { VisionModel } from '../models/layers/vision-model.js';
import { type PartConfig, readVisionConfig } from './config-file.js';
import { type LoadOptions, loadFolder } from './load.js';
import { type Adapt, adaptCLIPVision, adaptDino, adaptSiglipVision } from './published-keys.js';
import { transformersWeights } from './weight-files.js';

/** An image encoder of which only the config has been read. */
export interface ImageEncoderFolder {
  /** config.json's `model_type`; 'clip' is a whole CLIP, with a text encoder. */
  type: string;
  /** Height and width of the images that it takes, in pixels; null where it takes any. */
  imageSize: number | null;
  /** What its image processor does where the folder does not say. */
  processor: ProcessorDefaults;
  /** Returns the model without weights. */
  create(imageSize?: number): VisionModel;
  adapt: Adapt;
}

type Kind = (config: PartConfig, folder: string) => Omit<ImageEncoderFolder, 'type'>;

const clip: Kind = ({ json, where, isWhole }, folder) => {
  const config = parseCLIPVisionConfig(json, where);
  return {
    imageSize: config.imageSize,
    processor: processorDefaults.clip,
    create: () => new CLIPVisionModelWithProjection(config),
    adapt: (tensors) => {
      if (!tensors.has('visual_projection.weight'))
        throw new CheckpointError(
          `Expected the weights of a CLIPVisionModelWithProjection in ${folder} but there is no visual_projection.weight; they may be a CLIPVisionModel's, which has no image embeddings`,
        );
      return adaptCLIPVision({ isWhole })(tensors);
    },
  };
};

const siglip: Kind = ({ json, where }) => {
  const config = parseSiglipVisionConfig(json, where);
  return {
    imageSize: config.imageSize,
    processor: processorDefaults.siglip,
    create: () => new SiglipVisionModel(config),
    adapt: adaptSiglipVision,
  };
};

const dinov2: Kind = ({ json, where }) => ({
  imageSize: null,
  processor: processorDefaults.dinov2,
  create: (imageSize) => new Dinov2Model(parseDinov2Config(json, where, imageSize)),
  adapt: adaptDino,
});

const dino: Kind = ({ json, where }) => {
  const config = parseViTConfig(json, where);
  return {
    imageSize: config.imageSize,
    processor: processorDefaults.dino,
    create: () => new ViTModel(config),
    adapt: adaptDino,
  };
};

/** By `model_type`; the keys with `vision_config` are whole models, with a text encoder beside. */
const kinds: Readonly<Record<string, Kind>> = {
  clip_vision_model: clip,
  clip,
  siglip_vision_model: siglip,
  siglip,
  dinov2,
  dinov2_with_registers: dinov2,
  vit: dino,
};

/** Reads the config of a folder's image encoder. @throws ConfigError, CheckpointError where it holds another model */
export function readImageEncoder(folder: string): ImageEncoderFolder {
  const config = readVisionConfig(folder, Object.keys(kinds));
  return { type: config.type, ...(kinds[config.type] as Kind)(config, folder) };
}

/**
 * Loads an image encoder from a folder of one of transformers' classes, or of a whole CLIP or SigLIP.
 * @param imageSize height and width of the images to encode, for encoders that take any
 * @throws ConfigError, CheckpointError where the folder holds another model, or is incomplete
 */
export function loadImageEncoder(folder: string, options: LoadOptions = {}, imageSize?: number): VisionModel {
  const { create, adapt } = readImageEncoder(folder);
  return loadFolder(create(imageSize), folder, transformersWeights, adapt, options);
}
