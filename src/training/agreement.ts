/** @file What the processes of a run must agree on before the first step. */
import { createHash } from 'node:crypto';
import { ConfigError } from '../base/errors.js';
import type { Dataset } from '../data/dataset.js';
import type { ProcessGroup } from '../distributed/process-group.js';
import type { Processes } from '../distributed/processes.js';
import { flagOf } from '../options/options.js';
import type { ResolvedTrainOptions } from '../options/train-options.js';
import { cudaDevices, type Device, type DType, torchVersion, zeros } from '../torch/index.js';
import { resolveTarget } from '../torch/target.js';
import type { RunLock } from './checkpoints/run-lock.js';
import { optimizationTensors } from './optimization.js';
import type { Training } from './step.js';

/** The dtype of the frozen models by `--mixed-precision`. Trained weights stay in float32. */
const dtypes = { no: 'float32', fp16: 'float16', bf16: 'bfloat16' } as const;

/** A process above rank 0 writes nothing into the output folder. */
export const lockOfRank0: RunLock = { assertHeld: () => {}, [Symbol.dispose]: () => {} };

/** Returns a device without the index of a GPU. */
export function deviceKind(device: Device): string {
  return device.replace(/:.*/, '');
}

/** Returns device and dtype. With several processes, each has the GPU of its number on its host. */
export function placementOf(
  { device, mixedPrecision }: ResolvedTrainOptions,
  group: ProcessGroup | undefined,
): { device: Device; dtype: DType } {
  const dtype = dtypes[mixedPrecision];
  if (group === undefined) return resolveTarget({ device, dtype });
  if (device?.includes(':'))
    throw new ConfigError(
      `--device is ${device}, but each of several processes has a GPU of its own; give --device cuda`,
    );
  const count = cudaDevices();
  if (device === 'cpu' || (device === undefined && count === 0))
    return resolveTarget({ device: 'cpu', dtype });
  if (count < group.localWorldSize)
    throw new ConfigError(
      `${group.localWorldSize} processes of ${group.members[group.rank]?.host} need a GPU each, but LibTorch finds ${count} there; start as many processes as GPUs, or give --device cpu`,
    );
  return resolveTarget({ device: `cuda:${group.localRank}`, dtype });
}

/**
 * Checks that the processes can add gradients up as asked.
 * @throws ConfigError for `reduceDtype` with one process, or where the processes' backend does not know it
 */
export async function assertReducible(
  { reduceDtype }: Pick<ResolvedTrainOptions, 'reduceDtype'>,
  group: ProcessGroup | undefined,
  device: Device,
): Promise<void> {
  const isHalved = reduceDtype === 'bf16';
  if (group === undefined) {
    if (!isHalved) return;
    throw new ConfigError(
      '--reduce-dtype (reduceDtype) is bf16, but one process adds nothing up; leave it out',
    );
  }
  if (!isHalved) return;
  const probe = zeros([1], { device, dtype: 'bfloat16' });
  try {
    await group.allReduce(probe);
  } catch (cause) {
    // Gloo of LibTorch 1.13. It refuses before it sends anything, at all ranks alike.
    if (!/scalar type/i.test(String((cause as Error).cause ?? cause))) throw cause;
    throw new ConfigError(
      `--reduce-dtype (reduceDtype) is bf16, which Gloo of LibTorch ${torchVersion()} cannot add up; leave it out, or use LibTorch 2`,
      { cause },
    );
  } finally {
    probe.dispose();
  }
}

/** Options that may differ from host to host. */
const hostOptions: ReadonlySet<string> = new Set<keyof ResolvedTrainOptions>([
  ...(['device', 'threads', 'dataloaderNumWorkers', 'dataset', 'datasetRoot'] as const),
  // Rank 0 decides for all.
  ...(['outputDir', 'cacheDir', 'resume', 'reportTo', 'loggingDir'] as const),
]);

/**
 * Checks that all processes have the same options, and a device of the same kind. It must be their first collective: options
 * decide which ones follow, and of other ones nothing could be told but that they do not answer.
 * @throws ConfigError on all processes, with the options that differ
 */
export async function assertSameOptions(
  processes: Processes,
  config: ResolvedTrainOptions,
  device: Device,
): Promise<void> {
  const options = Object.entries(config).filter(([key]) => !hostOptions.has(key));
  await processes.assertSame({
    ...Object.fromEntries(options.map(([key, value]) => [flagOf(key), value])),
    [flagOf('device')]: deviceKind(device),
  });
}

/**
 * Checks that all processes train on the same rows. It must be the first collective after the opening of the dataset: a
 * process whose dataset is in shards, which are listed together, then meets one whose dataset is not, and both can tell.
 * @throws ConfigError on all processes
 */
export async function assertSameDataset(processes: Processes, { rows, fingerprint }: Dataset): Promise<void> {
  await processes.assertSame({
    'the number of rows': rows.length,
    'the fingerprint of the dataset': fingerprint,
  });
}

/** Checks that all processes start from the same weights and random numbers: their sums depend on it. @throws ConfigError */
export async function assertSameStart(
  processes: Processes,
  state: Pick<Training, 'adapter' | 'generator' | 'optimizer' | 'ema'>,
): Promise<void> {
  if (processes.worldSize === 1) return;
  const hash = createHash('sha256').update(state.generator.getState());
  for (const tensor of [...state.adapter.parameters(), ...optimizationTensors(state)])
    hash.update(tensor.toBytes());
  await processes.assertSame({ 'the hash of the first weights': hash.digest('hex').slice(0, 16) });
}
