/**
 * @file Which 3 × 3 convolution runs on the CPU where the weights are not trained: LibTorch's, or ours (native/kernels/convolution.cc). A
 * table decides, by the shape: the two add in another order, so a choice that a measurement makes would end bit-exact resuming, and equal
 * sums of several processes. Measured by bench/convolution.ts.
 */
import type { DType } from '../torch/index.js';

/** A checkpoint has the version of its run's table. 1: always LibTorch's. */
export type ConvolutionTable = 1 | 2;
export const newestConvolutionTable: ConvolutionTable = 2;

let table: ConvolutionTable = newestConvolutionTable;

/** Sets the table, for the whole process. */
export function setConvolutionTable(version: ConvolutionTable): void {
  table = version;
}

/** With fewer channels, the transforms take longer than the products that they save. */
const LEAST_CHANNELS = 16;

export interface ConvolutionShape {
  inChannels: number;
  outChannels: number;
  kernel: readonly number[];
  stride: number;
  padding: number;
  dtype: DType;
}

/** Returns whether ours is to be preferred to LibTorch's. */
export function prefersOurConvolution(shape: ConvolutionShape): boolean {
  const { inChannels, outChannels, kernel, stride, padding, dtype } = shape;
  if (table === 1 || dtype !== 'float32' || stride !== 1 || padding !== 1) return false;
  return kernel[0] === 3 && kernel[1] === 3 && Math.min(inChannels, outChannels) >= LEAST_CHANNELS;
}
