/** @file `npm run test:long`: tests of many minutes, which judge an issue before it is closed. */
import { configDefaults, defineConfig, mergeConfig } from 'vitest/config';
import shared from './vitest.config.js';

const merged = mergeConfig(
  shared,
  defineConfig({ test: { testTimeout: 3_600_000, hookTimeout: 3_600_000 } }),
);

export default {
  ...merged,
  test: { ...merged.test, include: ['**/*.long.test.ts'], exclude: configDefaults.exclude, maxWorkers: 1 },
};
