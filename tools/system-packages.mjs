/**
 * @file The system packages that are needed (a C++ compiler, LibTorch, a fast BLAS), and their installation on Debian and
 * Ubuntu. On other systems a message says what to install.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, realpathSync } from 'node:fs';
import { compiler, hasLibJpeg, SetupError } from './build-native.mjs';
import { findLibTorch, notFoundMessage, TRIPLET } from './find-libtorch.mjs';

const SYSTEM_LIBRARIES = `/usr/lib/${TRIPLET}`;
const MACOS = process.platform === 'darwin';

/** Returns the Debian packages that are missing. With a LibTorch from elsewhere, the system's is not needed. */
export function missingPackages() {
  const missing = [];
  if (spawnSync(compiler(), ['--version'], { stdio: 'ignore' }).error) missing.push('g++');
  const { libtorch, tried } = findLibTorch();
  if (!libtorch) {
    // LIBTORCH is set to a folder without LibTorch, which installing a package would not fix.
    if (process.env.LIBTORCH) throw new SetupError(notFoundMessage(tried));
    missing.push('libtorch-dev');
  }
  const fromSystem = !libtorch || libtorch.lib.startsWith(SYSTEM_LIBRARIES);
  if (fromSystem && !existsSync(`${SYSTEM_LIBRARIES}/openblas-openmp/libblas.so.3`)) {
    missing.push('libopenblas0-openmp');
  }
  return MACOS ? missing.filter((name) => name !== 'libopenblas0-openmp') : missing;
}

/** Returns the Debian packages that make the addon faster and are missing. */
export function wantedPackages() {
  if (MACOS || hasLibJpeg()) return [];
  return spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).error ? [] : ['libjpeg-dev'];
}

/** Returns the package of the browser that tests of the studio's page need, if it is missing. */
export function missingBrowser() {
  return existsSync('/usr/bin/chromium') || MACOS ? [] : ['chromium'];
}

/**
 * Installs Debian packages as root or through sudo.
 * @param {string[]} packages
 * @param {(line: string) => void} log called before the installation
 * @throws {SetupError} with the command to run by hand, if the installation is not possible or fails
 */
export function install(packages, log) {
  if (spawnSync('apt-get', ['--version'], { stdio: 'ignore' }).error) throw new SetupError(byHand());
  const root = process.getuid() === 0;
  const canSudo = !root && !spawnSync('sudo', ['--version'], { stdio: 'ignore' }).error;
  const command = `apt-get update && apt-get install -y --no-install-recommends ${packages.join(' ')}`;
  if (!root && !canSudo) {
    throw new SetupError(`Expected system packages ${packages.join(', ')}. Run as root:\n  ${command}`);
  }
  log(`installing system packages: ${packages.join(', ')} (takes minutes)`);
  const words = [...(root ? [] : ['sudo']), 'env', 'DEBIAN_FRONTEND=noninteractive', 'sh', '-c', command];
  const { status, stdout, stderr } = spawnSync(words[0], words.slice(1), {
    stdio: ['inherit', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 64 << 20,
  });
  if (status !== 0) {
    const end = `${stdout}${stderr}`.trimEnd().split('\n').slice(-15).join('\n');
    throw new SetupError(
      `${end}\nThe packages could not be installed. The command was, as root:\n  ${command}`,
    );
  }
}

/** Returns a warning if OpenBLAS's threads compete with LibTorch's, which makes it two or more times slower; else null. */
export function blasWarning(libtorch) {
  const name = `libblas.so.3-${TRIPLET}`;
  const active = `${SYSTEM_LIBRARIES}/libblas.so.3`;
  if (!libtorch.lib.startsWith(SYSTEM_LIBRARIES) || !existsSync(active)) return null;
  if (!realpathSync(active).includes('openblas-pthread')) return null;
  const better = `${SYSTEM_LIBRARIES}/openblas-openmp/libblas.so.3`;
  return [
    'libopenblas0-pthread is the active BLAS: its threads and those of LibTorch slow each other down. Change it by',
    `  sudo update-alternatives --set ${name} ${better}`,
  ].join('\n');
}

function byHand() {
  if (MACOS)
    return 'Expected a C++ compiler and LibTorch. Install them: xcode-select --install; brew install pytorch';
  return `Expected g++ and LibTorch on ${systemName()}. Install g++ with its package manager and LibTorch with: python3 -m pip install torch`;
}

function systemName() {
  const release = existsSync('/etc/os-release') ? readFileSync('/etc/os-release', 'utf8') : '';
  return /^PRETTY_NAME="?([^"\n]+)/m.exec(release)?.[1] ?? process.platform;
}
