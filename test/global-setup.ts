/** @file Before any test: the command that tests start is compiled once, not by two workers at the same time. */
import { join } from 'node:path';
import { compileTypeScript } from '../tools/compile-typescript.mjs';

export default function setup(): void {
  compileTypeScript(join(import.meta.dirname, '..'), console.log);
}
