/** @file The encoders that measure generated images. */
import { path } from './options.js';

export const metricOptions = {
  metricEncoder: path
    .optional()
    .describe(
      'CLIP that measures: a whole CLIP model or an image encoder, folder or name on the Hub; default: --image-encoder',
    ),
  metricTextEncoder: path
    .optional()
    .describe('CLIP text encoder for CLIP-T, if --metric-encoder has none: folder or name on the Hub'),
  dinoEncoder: path
    .optional()
    .describe(
      'image encoder for the DINO score, such as DINO ViT-S/16 or DINOv2: folder in the transformers layout, or name on the Hub; default: no such score',
    ),
};

export interface MetricOptions {
  metricEncoder?: string | undefined;
  metricTextEncoder?: string | undefined;
  dinoEncoder?: string | undefined;
}
