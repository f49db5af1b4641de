/** @file Compiles the command line once before the tests, so that test workers do not compile it concurrently. */
import { join } from 'node:path';
import { compileTypeScript } from '../tools/compile-typescript.mjs';

export default function setup(): void {
  compileTypeScript(join(import.meta.dirname, '..'), console.log);
}
