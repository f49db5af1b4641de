import { availableParallelism } from 'node:os';
import { configDefaults, defineConfig } from 'vitest/config';
import { sharingTests } from './test/sharing-tests.js';

const sharing = sharingTests(import.meta.dirname);

/** The settings of all tests. */
export const common = {
  // LibTorch's threads, default generator and live tensors are per process.
  pool: 'forks',
  maxWorkers: Math.min(2, availableParallelism()),
  // The models are tiny, and the workers share the cores.
  // And a GPU computes float32 as such, which recorded numbers are.
  env: { OMP_NUM_THREADS: '1', NVIDIA_TF32_OVERRIDE: '0' },
  testTimeout: 60_000,
  hookTimeout: 60_000,
} as const;

export default defineConfig({
  test: {
    globalSetup: 'test/global-setup.ts',
    ...common,
    projects: [
      { test: { ...common, name: 'shared processes', include: sharing, isolate: false } },
      {
        test: {
          ...common,
          name: 'a process each',
          include: ['src/**/*.test.ts', 'test/**/*.test.ts', 'demo/**/*.test.ts', 'tools/**/*.test.ts'],
          // What takes longer is in vitest.long.config.ts: npm run test:long.
          exclude: [...configDefaults.exclude, '**/*.long.test.ts', ...sharing],
          // After the others, because only files that follow each other share a process.
          sequence: { groupOrder: 1 },
          // One more than cores: a worker waits for deadlines, disks and ends of processes in a seventh of its time.
          maxWorkers: Math.min(3, availableParallelism() + 1),
        },
      },
    ],
  },
});
