/**
 * @file Which 3 × 3 convolution runs on the CPU where the weights are not trained: LibTorch's, or ours (native/kernels/convolution.cc), in
 * tiles of which size. A table decides, by the shape: they add in another order, so a choice that a measurement makes would end bit-exact
 * resuming, and equal sums of several processes; neither does it depend on the batch. Measured by bench/convolution.ts.
 */
import type { DType } from '../torch/index.js';

/** A checkpoint has the version of its run's table. 1: always LibTorch's. 2: no tiles of 4 × 4. */
export type ConvolutionTable = 1 | 2 | 3;
export const newestConvolutionTable: ConvolutionTable = 3;

let table: ConvolutionTable = newestConvolutionTable;

/** Sets the table, for the whole process. */
export function setConvolutionTable(version: ConvolutionTable): void {
  table = version;
}

/** With fewer channels, the transforms take longer than the products that they save. */
const LEAST_CHANNELS = 16;

/** Smaller images have too few tiles of 4 × 4 to fill registers. */
const LEAST_SIZE_OF_4 = 16;

export interface ConvolutionShape {
  inChannels: number;
  outChannels: number;
  height: number;
  width: number;
  kernel: readonly number[];
  stride: number;
  padding: number;
  dtype: DType;
}

/** Results in a row of a tile: Winograd's F(2 × 2, 3 × 3) or F(4 × 4, 3 × 3). */
export type ConvolutionTile = 2 | 4;

/** Returns the tile of our convolution where it is to be preferred to LibTorch's, else null. */
export function tileOfConvolution(shape: ConvolutionShape): ConvolutionTile | null {
  const { inChannels, outChannels, height, width, kernel, stride, padding, dtype } = shape;
  if (table === 1 || dtype !== 'float32' || stride !== 1 || padding !== 1) return null;
  if (kernel[0] !== 3 || kernel[1] !== 3 || Math.min(inChannels, outChannels) < LEAST_CHANNELS) return null;
  return table >= 3 && Math.min(height, width) >= LEAST_SIZE_OF_4 ? 4 : 2;
}
