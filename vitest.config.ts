import { availableParallelism } from 'node:os';
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'test/**/*.test.ts', 'demo/**/*.test.ts', 'tools/**/*.test.ts'],
    // What takes long is run apart.
    exclude: ['**/node_modules/**', '**/*.long.test.ts'],
    globalSetup: 'test/global-setup.ts',
    // A process each: the engine's threads, default generator and live tensors are per process.
    pool: 'forks',
    maxWorkers: Math.min(2, availableParallelism()),
    // The models are tiny, and the workers share the cores.
    // And a GPU computes float32 as such, which recorded numbers are.
    env: { OMP_NUM_THREADS: '1', NVIDIA_TF32_OVERRIDE: '0' },
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
