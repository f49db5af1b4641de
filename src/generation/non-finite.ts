/**
 * @file Finds the part of a pipeline that made NaN or infinity: such latents would become an image without a word, black or
 * grey. The check is one sum over the result; only where it fails are the parts searched, in the order of the data.
 */
import { CheckpointError } from '../base/errors.js';
import type { Backbone } from '../diffusion/model.js';
import { type Tensor, tensorsOf, tidy } from '../torch/index.js';
import type { Prompts } from './denoise.js';

/** Returns whether all values are finite. */
function allFinite(tensor: Tensor): boolean {
  // The sum of finite float64 values of this size is finite, and one that is not makes it so.
  return tidy(() => Number.isFinite(tensor.to('float64').sum().item()));
}

/**
 * @param latents the last ones
 * @throws CheckpointError that names the part where latents are not finite
 */
export function assertFiniteLatents(latents: Tensor, prompts: Prompts, backbone: Backbone): void {
  if (allFinite(latents)) return;
  const { positive, negative, images, start, controls } = prompts;
  if (![...tensorsOf(positive), ...tensorsOf(negative)].every(allFinite))
    throw fault('the text encoder', 'its weights are damaged, or overflow in this precision');
  for (const { adapter, tokens, negativeTokens } of images) {
    if (!adapter.parameters().every(allFinite))
      throw fault('the adapter', 'its weights are not finite: the file is damaged, or its training failed');
    if (![tokens, negativeTokens].every(allFinite))
      throw fault('the image encoder', 'its weights are damaged, or overflow in this precision');
  }
  if (!tensorsOf(start).every(allFinite))
    throw fault('the VAE', 'its weights are damaged, or overflow in this precision');
  for (const { net } of controls?.nets ?? [])
    if (!net.parameters().every(allFinite))
      throw fault('a ControlNet', 'its weights are not finite: the file is damaged');
  throw backbone.parameters().every(allFinite)
    ? fault(
        'the UNet',
        'its values overflow in this precision, or the guidance or image scale is far too high',
      )
    : fault('the UNet', 'its weights are not finite: the file is damaged');
}

/**
 * @param pixels decoded from finite latents
 * @throws CheckpointError where they are not finite
 */
export function assertFinitePixels(pixels: Tensor): void {
  if (!allFinite(pixels)) throw fault('the VAE', 'its weights are damaged, or overflow in this precision');
}

function fault(part: string, why: string): CheckpointError {
  return new CheckpointError(
    `Generation failed: ${part} made NaN or infinity; ${why}. Try --dtype float32, or another file. No image was written.`,
  );
}
