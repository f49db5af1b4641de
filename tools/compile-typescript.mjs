/** @file Compiles `src/` to `dist/` if it has changed since the last time. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SetupError } from './build-native.mjs';

const STAMP = 'build/dist.sha256';
const COMMAND = 'dist/cli/ip-adapter.cjs';

/**
 * Compiles `src/` if it has changed.
 * @param {string} root the project's folder
 * @param {(line: string) => void} log called before compiling
 * @returns {boolean} whether it was compiled
 * @throws {SetupError} with the compiler's messages
 */
export function compileTypeScript(root, log) {
  const stamp = join(root, STAMP);
  const state = sourceHash(root);
  const built = existsSync(join(root, COMMAND)) && existsSync(stamp) && readFileSync(stamp, 'utf8') === state;
  if (built) return false;
  log('compiling src/ to dist/');
  // Compile into a temporary folder, so that dist/ stays complete until it is replaced.
  const fresh = join(root, `build/dist.${process.pid}`);
  const tsc = join(root, 'node_modules/typescript/bin/tsc');
  const { status, stdout } = spawnSync(
    process.execPath,
    [tsc, '-p', 'tsconfig.build.json', '--outDir', fresh],
    {
      cwd: root,
      encoding: 'utf8',
    },
  );
  if (status !== 0) {
    rmSync(fresh, { recursive: true, force: true });
    throw new SetupError(`${stdout}\nsrc/ does not compile; the messages are above.`);
  }
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  renameSync(fresh, join(root, 'dist'));
  chmodSync(join(root, COMMAND), 0o755);
  writeFileSync(stamp, state);
  return true;
}

function sourceHash(root) {
  const sources = readdirSync(join(root, 'src'), { recursive: true })
    .filter((file) => /\.c?ts$/.test(file) && !file.endsWith('.test.ts'))
    .map((file) => join('src', file));
  const sha = createHash('sha256');
  for (const file of ['tsconfig.json', 'tsconfig.build.json', 'package-lock.json', ...sources.sort()]) {
    sha
      .update(file)
      .update('\0')
      .update(readFileSync(join(root, file)))
      .update('\0');
  }
  return sha.digest('hex');
}
