/** @file Builds the page into dist/studio-page; tools/compile-typescript.mjs runs it. */
import { defineConfig } from 'vite';

export default defineConfig({
  // The page may lie below any path of a proxy.
  base: './',
  oxc: { jsx: { runtime: 'automatic', importSource: 'preact' } },
  build: { target: 'es2022', modulePreload: { polyfill: false }, reportCompressedSize: false },
});
