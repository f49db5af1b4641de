/** @file What the rest of the project uses of LibTorch. */
export { backward, isGradEnabled, noGrad } from './autograd.js';
export { checkpoint, GradientCheckpoints } from './checkpointing.js';
export {
  arange,
  cat,
  empty,
  full,
  ones,
  rand,
  randint,
  randn,
  stack,
  tensor,
  zeros,
} from './creation.js';
export { type DType, dtypes } from './dtype.js';
export { Generator } from './generator.js';
export { assertGraphs, graphed, type Recorder, recordCuda } from './graphs.js';
export { cropJpeg, type JpegShrink, jpegLibrary, jpegSize } from './jpeg.js';
export { type FixedPointFilter, resampleBytes, resampleBytesAsync, writePlanarBytes } from './resample.js';
export {
  cudaDevices,
  memoryStats,
  releasePages,
  resetMemoryPeak,
  setFileMapping,
  setNumThreads,
  synchronize,
  torchVersion,
  trimMemory,
  tuneCuda,
} from './runtime.js';
export { tidy } from './scope.js';
export { type Device, op, Tensor } from './tensor.js';
export { mapTensors, tensorsOf, withTensors, zipTensors } from './tensor-tree.js';
