/**
 * @file Sets up a checkout: packages, system libraries, the addon, dist/. Each part does nothing if nothing has changed, so
 * `npm start` and `npm test` run it first. It uses only Node, since it runs before any package is installed.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { buildNative, progressLine, SetupError } from './tools/build-native.mjs';
import { compileTypeScript } from './tools/compile-typescript.mjs';
import {
  blasWarning,
  install,
  missingBrowser,
  missingPackages,
  wantedPackages,
} from './tools/system-packages.mjs';

const ROOT = dirname(fileURLToPath(import.meta.url));
const say = (line) => console.log(`setup: ${line}`);

/** Runs one part, and prints how long it took if it had something to do. */
async function timed(work) {
  const start = Date.now();
  if (await work()) say(`  done in ${((Date.now() - start) / 1000).toFixed(1)} s`);
}

function npmPackages() {
  if (packagesMatchLock()) return false;
  say('installing the packages of package-lock.json');
  // No package needs an install script, so no foreign code runs during the set-up.
  const args = ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund'];
  const { status } = spawnSync('npm', args, { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
  if (status !== 0) throw new SetupError(`\`npm ${args.join(' ')}\` failed; its messages are above.`);
  return true;
}

/** Returns whether node_modules matches the lock file (optional packages of other platforms may be missing). */
function packagesMatchLock() {
  const installedLock = join(ROOT, 'node_modules/.package-lock.json');
  if (!existsSync(installedLock)) return false;
  const installed = JSON.parse(readFileSync(installedLock, 'utf8')).packages;
  const { packages } = JSON.parse(readFileSync(join(ROOT, 'package-lock.json'), 'utf8'));
  return Object.entries(packages).every(([path, { version, optional }]) =>
    path === '' ? true : installed[path] ? installed[path].version === version : optional,
  );
}

function systemPackages() {
  const missing = missingPackages();
  const wanted = wantedPackages();
  if (missing.length + wanted.length === 0) return false;
  try {
    install([...missing, ...wanted], say);
  } catch (error) {
    if (missing.length > 0 || !(error instanceof SetupError)) throw error;
    say(`${wanted.join(', ')} could not be installed; without it, JPEGs are read more slowly:`);
    for (const line of error.message.split('\n')) say(`  ${line}`);
  }
  return true;
}

/** For tests only, which are skipped without it. */
function browser() {
  const missing = process.argv.includes('--browser') ? missingBrowser() : [];
  if (missing.length === 0) return false;
  try {
    install(missing, say);
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    say(`without a browser, the tests of the studio's page are skipped: ${error.message.split('\n').at(-1)}`);
  }
  return true;
}

async function addon() {
  const { built, libtorch } = await buildNative(progressLine(process.stdout, 'setup: '));
  const warning = blasWarning(libtorch);
  if (warning) for (const line of warning.split('\n')) say(line);
  return built;
}

try {
  await timed(npmPackages);
  await timed(systemPackages);
  await timed(browser);
  await timed(addon);
  await timed(() => compileTypeScript(ROOT, say));
} catch (error) {
  if (!(error instanceof SetupError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
