/** @file `npm run test:long`: tests of many minutes, which judge an issue before it is closed. */
import { defineConfig } from 'vitest/config';
import { common } from './vitest.config.js';

export default defineConfig({
  test: {
    ...common,
    include: ['**/*.long.test.ts'],
    globalSetup: 'test/global-setup.ts',
    maxWorkers: 1,
    testTimeout: 3_600_000,
    hookTimeout: 3_600_000,
  },
});
