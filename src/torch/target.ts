/** @file Where models run, and in which precision. */
import { ConfigError } from '../base/errors.js';
import { assertGraphs, cudaDevices, type Device, type DType, torchVersion, tuneCuda } from './index.js';

/** Sets the engine up for it. @throws ConfigError where the machine has no such device, or the device cannot do with the precision */
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
  const found = cudaDevices();
  if (device !== 'cpu' && index >= found)
    throw new ConfigError(
      found === 0
        ? `--device ${device} needs a CUDA GPU and a LibTorch built for CUDA, and LibTorch ${torchVersion()} here finds none`
        : `--device ${device} is not there: LibTorch ${torchVersion()} finds ${found === 1 ? 'cuda:0 alone' : `cuda:0 … cuda:${found - 1}`}`,
    );
  if (device === 'cpu' && dtype === 'float16')
    throw new ConfigError(
      'float16 needs --device cuda: LibTorch has no half-precision convolution on the CPU; bfloat16 works on both',
    );
  const target = { device, dtype: dtype ?? (device === 'cpu' ? 'float32' : 'float16') } as const;
  // What is trained is float32 in any case; who runs the rest in half precision wants speed.
  if (device !== 'cpu') tuneCuda({ allowTF32: target.dtype !== 'float32' });
  return target;
}

/** @throws ConfigError where `--cuda-graphs` cannot be */
export function assertCudaGraphs(device: Device): void {
  if (device === 'cpu') throw new ConfigError('--cuda-graphs needs --device cuda, and the run is on the CPU');
  assertGraphs();
}
