import type { PixelValues } from '../src/images/pixels.js';
import { tidy } from '../src/torch/index.js';

/** Returns the numbers of pixel values; none for null. */
export function floatsOf(values: PixelValues | null | undefined): Float32Array {
  return tidy(() => Float32Array.from(values?.toTensor().toNumbers() ?? []));
}
