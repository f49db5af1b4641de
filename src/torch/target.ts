/** @file Chooses the device and dtype that models run in. */
import { ConfigError } from '../base/errors.js';
import { assertGraphs, cudaDevices, type Device, type DType, torchVersion, tuneCuda } from './index.js';

/**
 * Chooses the defaults and configures the engine for them.
 * @throws ConfigError where the machine has no such device, or the device does not support the dtype
 */
export function resolveTarget({
  device = cudaDevices() > 0 ? 'cuda' : 'cpu',
  dtype,
}: {
  device?: Device;
  dtype?: DType;
}): {
  device: Device;
  dtype: DType;
} {
  const [, index = 0] = device.split(':').map(Number);
  const count = cudaDevices();
  if (device !== 'cpu' && index >= count)
    throw new ConfigError(
      count === 0
        ? `--device ${device} needs a CUDA GPU and a LibTorch built for CUDA, but LibTorch ${torchVersion} finds none; use --device cpu`
        : `--device ${device} does not exist: LibTorch ${torchVersion} finds ${count === 1 ? 'only cuda:0' : `cuda:0 … cuda:${count - 1}`}`,
    );
  if (device === 'cpu' && dtype === 'float16')
    throw new ConfigError(
      'float16 needs --device cuda, because LibTorch has no float16 convolution on the CPU; use bfloat16, which works on both',
    );
  const target = { device, dtype: dtype ?? (device === 'cpu' ? 'float32' : 'float16') } as const;
  // Trained weights are always float32. Where the frozen models run in half precision, their products may use TF32.
  if (device !== 'cpu') tuneCuda({ allowTF32: target.dtype !== 'float32' });
  return target;
}

/** @throws ConfigError where CUDA graphs are not available */
export function assertCudaGraphs(device: Device): void {
  if (device === 'cpu') throw new ConfigError('--cuda-graphs needs --device cuda, but the run is on the CPU');
  assertGraphs();
}
