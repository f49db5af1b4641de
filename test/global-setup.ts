/** @file What test workers and the commands that they start would otherwise each do anew. */
import { dirname, join } from 'node:path';
import { compileTypeScript } from '../tools/compile-typescript.mjs';
import { findLibTorch } from '../tools/find-libtorch.mjs';

export default function setup(): void {
  // Not by test workers, which would compile it concurrently.
  compileTypeScript(join(import.meta.dirname, '..'), console.log);
  // The search asks python3, which takes 0.15 s of each process that loads the addon.
  const { libtorch } = findLibTorch();
  if (libtorch !== null) process.env.LIBTORCH = dirname(libtorch.include);
}
