/** @file Compiles `src/` to `dist/`, and the page of `studio/` to `dist/studio-page/`, if they have changed since the last time. */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { chmodSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SetupError } from './build-native.mjs';

const STAMP = 'build/dist.sha256';
const COMMAND = 'dist/cli/ip-adapter.cjs';

/**
 * Compiles `src/` and `studio/` if they have changed.
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
  buildPage(root, join(fresh, 'studio-page'));
  rmSync(join(root, 'dist'), { recursive: true, force: true });
  renameSync(fresh, join(root, 'dist'));
  chmodSync(join(root, COMMAND), 0o755);
  writeFileSync(stamp, state);
  return true;
}

/** @throws SetupError with vite's messages */
function buildPage(root, out) {
  const vite = join(root, 'node_modules/vite/bin/vite.js');
  const args = [vite, 'build', 'studio', '--outDir', out, '--logLevel', 'error'];
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  if (status === 0) return;
  rmSync(dirname(out), { recursive: true, force: true });
  throw new SetupError(`${stdout}${stderr}\nThe page of studio/ is not built; the messages are above.`);
}

function sourceHash(root) {
  const filesIn = (folder) =>
    readdirSync(join(root, folder), { recursive: true }).map((file) => join(folder, file));
  const sources = [
    ...filesIn('src').filter((file) => /\.c?ts$/.test(file) && !file.endsWith('.test.ts')),
    ...filesIn('studio').filter((file) => /\.\w+$/.test(file)),
  ];
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
