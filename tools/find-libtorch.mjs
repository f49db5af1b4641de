/**
 * @file Finds the LibTorch to build against, by looking at files only: torch is never imported or run,
 * so that this works for any version, with or without CUDA, in a few milliseconds.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';

const OLDEST = [1, 13];
const SUFFIX = process.platform === 'darwin' ? 'dylib' : 'so';
/** How Debian names the folders of this processor, e.g. x86_64-linux-gnu. */
export const TRIPLET = `${{ x64: 'x86_64', arm64: 'aarch64' }[process.arch] ?? process.arch}-linux-gnu`;

/**
 * @typedef {object} LibTorch
 * @property {string} source where it was found, in words
 * @property {string} include folder that holds `ATen/ATen.h`
 * @property {string} lib folder that holds `libtorch_cpu`
 * @property {string} version as its `version.h` says
 * @property {boolean} cuda whether `libtorch_cuda` is there
 * @property {string | null} cudaInclude folder of CUDA's own headers, which its graphs take; null where there is none
 * @property {boolean} cxx11Abi whether its std::string is the C++11 one (pip wheels before 2.6: not)
 * @property {number} cxxStandard the C++ standard its headers ask for, at least 17
 */

/**
 * The LibTorch of this machine: env LIBTORCH, else python3's torch, else Homebrew's, else the system's.
 * @returns {{ libtorch: LibTorch | null, tried: { place: string, why: string }[] }}
 */
export function findLibTorch(env = process.env) {
  const tried = [];
  for (const { place, prefixes, why, final } of places(env)) {
    const reasons = why ? [why] : [];
    for (const prefix of prefixes) {
      const result = inspect(prefix, place, env);
      if (typeof result !== 'string') return { libtorch: result, tried };
      reasons.push(result);
    }
    tried.push({ place, why: reasons.join('; ') });
    if (final) break;
  }
  return { libtorch: null, tried };
}

/** The message for a machine on which {@link findLibTorch} found none: what was tried, and how to fix it. */
export function notFoundMessage(tried) {
  return [
    `Expected LibTorch ${OLDEST.join('.')} or newer but found none. Tried, in this order:`,
    ...tried.map(({ place, why }, i) => `  ${i + 1}. ${place}: ${why}`),
    'Any one of these fixes it:',
    '  Debian, Ubuntu   sudo apt-get install libtorch-dev libopenblas0-openmp',
    '  macOS            brew install pytorch',
    '  pip              python3 -m pip install torch',
    '  by hand          LIBTORCH=<folder with include/ and lib/>, unpacked from pytorch.org',
  ].join('\n');
}

/** The places to look in, in order. A set LIBTORCH is the only one: another engine is not what was asked for. */
function* places(env) {
  if (env.LIBTORCH) yield { place: 'env LIBTORCH', prefixes: [env.LIBTORCH], final: true };
  else yield { place: 'env LIBTORCH', prefixes: [], why: 'not set' };
  yield { place: "python3's torch", ...pythonTorch() };
  yield { place: 'Homebrew', ...homebrew() };
  yield { place: 'the system', prefixes: ['/usr', '/usr/local'] };
}

/** The folder of python3's torch, by asking where the import would come from. */
function pythonTorch() {
  const ask =
    'import importlib.util as u; s = u.find_spec("torch"); print((list(s.submodule_search_locations or [""]) if s else [""])[0])';
  let folder;
  try {
    folder = execFileSync('python3', ['-c', ask], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim();
  } catch {
    return { prefixes: [], why: 'no python3 that runs' };
  }
  return folder ? { prefixes: [folder] } : { prefixes: [], why: 'python3 has no package torch' };
}

function homebrew() {
  const prefixes = [
    '/opt/homebrew/opt/pytorch',
    '/usr/local/opt/pytorch',
    '/home/linuxbrew/.linuxbrew/opt/pytorch',
  ];
  const found = prefixes.filter((prefix) => existsSync(prefix));
  return found.length > 0 ? { prefixes: found } : { prefixes: [], why: 'no formula pytorch installed' };
}

/** Describes the LibTorch under a prefix, or says why there is none to use. */
function inspect(prefix, place, env) {
  const include = join(prefix, 'include');
  if (!existsSync(join(include, 'ATen/ATen.h'))) return `no ${join(include, 'ATen/ATen.h')}`;
  const lib = ['lib', 'lib64', `lib/${TRIPLET}`]
    .map((folder) => join(prefix, folder))
    .find((folder) => existsSync(join(folder, `libtorch_cpu.${SUFFIX}`)));
  if (!lib) return `no libtorch_cpu.${SUFFIX} under ${join(prefix, 'lib')}`;
  const version = readVersion(include);
  if (!version) return `no torch/version.h under ${include}`;
  const [major, minor] = version.split('.').map(Number);
  if (major < OLDEST[0] || (major === OLDEST[0] && minor < OLDEST[1])) {
    return `${prefix} has version ${version}, older than ${OLDEST.join('.')}`;
  }
  const cuda = existsSync(join(lib, `libtorch_cuda.${SUFFIX}`));
  return {
    source: `${place} (${prefix})`,
    include,
    lib: realpathSync(lib),
    version,
    cuda,
    cudaInclude: cuda ? cudaHeaders(prefix, env) : null,
    cxx11Abi: hasCxx11Abi(lib),
    cxxStandard: cxxStandard(include),
  };
}

/** CUDA's headers: of $CUDA_HOME, as pip installs them beside torch, or in the toolkit's usual place. */
function cudaHeaders(prefix, env) {
  const pip = join(prefix, '..', 'nvidia');
  const packages = existsSync(pip) ? readdirSync(pip).sort() : [];
  return (
    [env.CUDA_HOME ?? '', ...packages.map((name) => join(pip, name)), '/usr/local/cuda']
      .filter((folder) => folder !== '')
      .map((folder) => join(folder, 'include'))
      // pip's package for running programs lacks the second.
      .find((folder) =>
        ['cuda_runtime.h', 'crt/host_config.h'].every((file) => existsSync(join(folder, file))),
      ) ?? null
  );
}

/** The version that the headers state; the file has moved over the years. */
function readVersion(include) {
  for (const file of [
    'torch/headeronly/version.h',
    'torch/csrc/api/include/torch/version.h',
    'torch/version.h',
  ]) {
    const path = join(include, file);
    if (!existsSync(path)) continue;
    const text = readFileSync(path, 'utf8');
    const parts = ['MAJOR', 'MINOR', 'PATCH'].map(
      (p) => new RegExp(`#define TORCH_VERSION_${p} (\\d+)`).exec(text)?.[1],
    );
    if (parts.every((part) => part !== undefined)) return parts.join('.');
  }
  return null;
}

/** Which std::string LibTorch speaks, from the mangled name of c10::Error's constructor. */
function hasCxx11Abi(lib) {
  if (SUFFIX !== 'so') return true;
  return !readFileSync(join(lib, 'libc10.so')).includes('_ZN3c105ErrorC1ENS_14SourceLocationESs');
}

/** ATen's own header names the standard under which it refuses to compile. */
function cxxStandard(include) {
  const asked = /C\+\+(\d\d) or later/.exec(readFileSync(join(include, 'ATen/ATen.h'), 'utf8'))?.[1];
  return Math.max(17, Number(asked ?? 17));
}
