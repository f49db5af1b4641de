import { expect, it } from 'vitest';
import type { RankEnvironment } from '../distributed/environment.js';
import { processesToStart } from './train-processes.js';

type Options = Parameters<typeof processesToStart>[0];
const optionsOf = (changes: Partial<Options>): Options =>
  ({ dataset: ['data.json'], device: 'cpu', dryRun: false, ...changes }) as Options;
const started = (changes: Partial<Options>) => processesToStart(optionsOf(changes), undefined);

it('starts as many processes as are asked for, and none for one', async () => {
  expect(await started({ numProcesses: 3 })).toBe(3);
  expect(await started({ numProcesses: 1 })).toBeUndefined();
  expect(await started({})).toBeUndefined();
});

it('auto: one for each GPU, and this process alone on the CPU', async () => {
  expect(await started({ numProcesses: 'auto' })).toBeUndefined();
  const { cudaDevices } = await import('../torch/index.js');
  const expected = cudaDevices() > 1 ? cudaDevices() : undefined;
  expect(await started({ numProcesses: 'auto', device: 'cuda' })).toBe(expected);
});

it('as one of several that torchrun started, it trains itself, whatever number is named', async () => {
  const environment = { rank: 1, worldSize: 4 } as RankEnvironment;
  expect(await processesToStart(optionsOf({ numProcesses: 4 }), environment)).toBeUndefined();
  expect(await processesToStart(optionsOf({}), environment)).toBeUndefined();
  await expect(processesToStart(optionsOf({ numProcesses: 2 }), environment)).rejects.toThrow(
    '--num-processes is 2, but this is rank 1 of 4 processes',
  );
});

it('refuses to read standard input in several processes', async () => {
  await expect(started({ numProcesses: 2, dataset: ['-'] })).rejects.toThrow(
    '--dataset - does not go together with --num-processes 2',
  );
  expect(await started({ numProcesses: 1, dataset: ['-'] })).toBeUndefined();
});
