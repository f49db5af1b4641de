/** @file Where models run, and in which precision. */
import { ConfigError } from './errors.js';
import { type Device, type DType, hasCuda, torchVersion } from './torch/index.js';

/** @throws ConfigError where the machine has no such device, or the device cannot do with the precision */
export function resolveTarget({
  device = hasCuda() ? 'cuda' : 'cpu',
  dtype,
}: {
  device?: Device;
  dtype?: DType;
}): {
  device: Device;
  dtype: DType;
} {
  if (device !== 'cpu' && !hasCuda())
    throw new ConfigError(
      `--device ${device} needs a CUDA GPU and a LibTorch built for CUDA, and LibTorch ${torchVersion} here finds none`,
    );
  if (device === 'cpu' && dtype === 'float16')
    throw new ConfigError(
      'float16 needs --device cuda: LibTorch has no half-precision convolution on the CPU; bfloat16 works on both',
    );
  return { device, dtype: dtype ?? (device === 'cpu' ? 'float32' : 'float16') };
}
