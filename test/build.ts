/** @file Brings dist/ up to date before the tests, whichever way they are started. */
import { fileURLToPath } from 'node:url';
import { compileTypeScript } from '../tools/compile-typescript.mjs';

export default async function setup(): Promise<void> {
  await compileTypeScript(fileURLToPath(new URL('..', import.meta.url)), console.log);
}
