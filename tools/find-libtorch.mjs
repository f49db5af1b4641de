/**
 * @file Finds the LibTorch to build with, from files alone: torch is never imported or run, so this works for every
 * version, with or without CUDA, in a few milliseconds.
 */
import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { join } from 'node:path';
import { libTorchFolder } from './cache-folder.mjs';

const OLDEST = [1, 13];
const SUFFIX = process.platform === 'darwin' ? 'dylib' : 'so';
/** Debian's name of this platform in folders, such as x86_64-linux-gnu. */
export const TRIPLET = `${{ x64: 'x86_64', arm64: 'aarch64' }[process.arch] ?? process.arch}-linux-gnu`;

/**
 * @typedef {object} LibTorch
 * @property {string} source a description of where it was found
 * @property {string} include folder that holds `ATen/ATen.h`
 * @property {string} lib folder that holds `libtorch_cpu`
 * @property {string} version the version in its `version.h`
 * @property {boolean} cuda whether it has `libtorch_cuda`
 * @property {string | null} cudaInclude folder of CUDA's headers, needed for CUDA graphs; null if there is none
 * @property {boolean} gloo whether its headers have c10d's process group over Gloo; false on macOS, where it was never tried
 * @property {string | null} ncclInclude folder of `nccl.h`, needed for process groups over GPUs; null if there is none
 * @property {boolean} cxx11Abi whether it uses the C++11 ABI of std::string (pip wheels before 2.6 do not)
 * @property {number} cxxStandard the C++ standard that its headers require, at least 17
 */

/**
 * Finds the LibTorch of this machine: env LIBTORCH, else that of `ip-adapter install-torch`, else python3's torch, else Homebrew's, else the system's.
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

/** Returns the message for a machine on which {@link findLibTorch} found none: what was tried, and how to fix it. */
export function notFoundMessage(tried) {
  return [
    `Expected LibTorch ${OLDEST.join('.')} or newer but found none. Tried, in this order:`,
    ...tried.map(({ place, why }, i) => `  ${i + 1}. ${place}: ${why}`),
    'Any one of these fixes it:',
    '  Debian, Ubuntu   sudo apt-get install libtorch-dev libopenblas0-openmp',
    '  macOS            brew install pytorch',
    '  pip              python3 -m pip install torch',
    '  without root     npx ip-adapter install-torch cpu',
    '  by hand          LIBTORCH=<folder with include/ and lib/>, unpacked from pytorch.org',
  ].join('\n');
}

/** Returns the places to search, in order. If LIBTORCH is set, it is the only place: the user wants that one. */
function* places(env) {
  if (env.LIBTORCH) yield { place: 'env LIBTORCH', prefixes: [env.LIBTORCH], final: true };
  else yield { place: 'env LIBTORCH', prefixes: [], why: 'not set' };
  yield { place: 'ip-adapter install-torch', ...installed(env) };
  yield { place: "python3's torch", ...pythonTorch() };
  yield { place: 'Homebrew', ...homebrew() };
  yield { place: 'the system', prefixes: ['/usr', '/usr/local'] };
}

/** Returns the folder of the LibTorch that was installed last: one from a wheel, or from pytorch.org's archive. */
function installed(env) {
  const folder = libTorchFolder(env);
  const current = join(folder, 'current');
  if (!existsSync(current)) return { prefixes: [], why: `nothing is installed in ${folder}` };
  const root = join(folder, readFileSync(current, 'utf8').trim());
  const prefixes = ['torch', 'libtorch'].map((name) => join(root, name)).filter((path) => existsSync(path));
  return prefixes.length > 0 ? { prefixes } : { prefixes, why: `${root} has been deleted` };
}

/** Returns the folder of python3's torch, by asking Python where the import would come from. */
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
  const existing = prefixes.filter((prefix) => existsSync(prefix));
  return existing.length > 0 ? { prefixes: existing } : { prefixes: [], why: 'no formula pytorch installed' };
}

/** Describes the LibTorch under a prefix, or explains why there is none to use. */
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
  const cudaInclude = cuda ? cudaHeaders(prefix, env) : null;
  const gloo =
    SUFFIX === 'so' && existsSync(join(include, 'torch/csrc/distributed/c10d/ProcessGroupGloo.hpp'));
  return {
    source: `${place} (${prefix})`,
    include,
    lib: realpathSync(lib),
    version,
    cuda,
    cudaInclude,
    gloo,
    ncclInclude: gloo && cudaInclude !== null ? ncclHeaders(prefix, cudaInclude) : null,
    cxx11Abi: hasCxx11Abi(lib),
    cxxStandard: cxxStandard(include),
  };
}

/** Returns the folder of CUDA's headers: $CUDA_HOME, those that pip installs with torch, or the toolkit's default folder. */
function cudaHeaders(prefix, env) {
  const pip = join(prefix, '..', 'nvidia');
  const packages = existsSync(pip) ? readdirSync(pip).sort() : [];
  return (
    [env.CUDA_HOME ?? '', ...packages.map((name) => join(pip, name)), '/usr/local/cuda']
      .filter((folder) => folder !== '')
      .map((folder) => join(folder, 'include'))
      // pip's runtime package does not have the second header.
      .find((folder) =>
        ['cuda_runtime.h', 'crt/host_config.h'].every((file) => existsSync(join(folder, file))),
      ) ?? null
  );
}

/** Returns the folder of NCCL's header: beside CUDA's, that of pip's package beside torch, or the system's. */
function ncclHeaders(prefix, cudaInclude) {
  const folders = [cudaInclude, join(prefix, '..', 'nvidia/nccl/include'), '/usr/include'];
  return folders.find((folder) => existsSync(join(folder, 'nccl.h'))) ?? null;
}

/** Returns the version in the headers. The file's place depends on the version. */
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

/** Returns the ABI of std::string in LibTorch, from the mangled name of c10::Error's constructor. */
function hasCxx11Abi(lib) {
  if (SUFFIX !== 'so') return true;
  return !readFileSync(join(lib, 'libc10.so')).includes('_ZN3c105ErrorC1ENS_14SourceLocationESs');
}

/** Returns the C++ standard that ATen's header requires. */
function cxxStandard(include) {
  const asked = /C\+\+(\d\d) or later/.exec(readFileSync(join(include, 'ATen/ATen.h'), 'utf8'))?.[1];
  return Math.max(17, Number(asked ?? 17));
}
