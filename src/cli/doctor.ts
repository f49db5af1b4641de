/** @file `ip-adapter doctor`: what this machine has of all that the package needs, and how to get what is missing. */
import { spawnSync } from 'node:child_process';
import { existsSync, realpathSync, statfsSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { Command } from '@commander-js/extra-typings';
import { compiler, locateAddon } from '../../tools/build-native.mjs';
import { cacheFolder as addonCache } from '../../tools/cache-folder.mjs';
import { findLibTorch, TRIPLET } from '../../tools/find-libtorch.mjs';
import { blasWarning } from '../../tools/system-packages.mjs';
import { poolThreads } from '../base/thread-pool.js';
import { proposedTorch } from '../hub/torch-archives.js';

interface Finding {
  name: string;
  found: string;
  /** `missing`: training and generation cannot run without it. `warning`: they run, but slower or not everywhere. */
  state: 'ok' | 'warning' | 'missing';
  /** The command that fixes it. */
  fix?: string;
}

const NODE = [20, 19] as const;
const GiB = 2 ** 30;
/** A download of SD 1.5 with its image encoder takes about this much. */
const HUB_BYTES = 8 * GiB;
const ADDON_BYTES = 0.1 * GiB;
/** The smallest memory in which a training of SD 1.5 has been seen to run. */
const LEAST_MEMORY = 6 * GiB;

export function doctorCommand(): Command {
  return new Command('doctor')
    .description('List what this machine has of all that is needed, and how to get what is missing.')
    .action(async () => {
      const findings = await examine();
      const width = Math.max(...findings.map(({ name }) => name.length));
      for (const { name, found, state, fix } of findings) {
        process.stdout.write(`${state.padEnd(7)}  ${name.padEnd(width)}  ${found}\n`);
        if (fix !== undefined) process.stdout.write(`${' '.repeat(width + 11)}fix: ${fix}\n`);
      }
      if (findings.some(({ state }) => state === 'missing')) process.exitCode = 1;
    }) as unknown as Command;
}

async function examine(): Promise<Finding[]> {
  const { libtorch, tried } = findLibTorch();
  const isBuilt = libtorch !== null && locateAddon().isBuilt;
  return [
    node(),
    cxx(isBuilt),
    ...(libtorch === null ? [libTorchMissing(tried)] : engine(libtorch)),
    ...(libtorch === null ? [] : await addon(isBuilt, libtorch.cuda)),
    threads(),
    imageThreads(),
    await memory(),
    disk('addon cache', addonCache(), ADDON_BYTES, 'export IP_ADAPTER_CACHE=<a folder with more space>'),
    disk(
      'Hub cache',
      (await import('../hub/cache.js')).cacheFolder(),
      HUB_BYTES,
      'export HF_HUB_CACHE=<a folder with more space>',
    ),
  ];
}

function node(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isNew = major > NODE[0] || (major === NODE[0] && minor >= NODE[1]);
  const found = `${process.version}, ${process.execPath}`;
  if (isNew) return { name: 'Node.js', found, state: 'ok' };
  return {
    name: 'Node.js',
    found: `${found}; ${NODE.join('.')} or newer is needed`,
    state: 'missing',
    fix: 'npx n 22',
  };
}

function cxx(isBuilt: boolean): Finding {
  const { error, stdout } = spawnSync(compiler(), ['--version'], { encoding: 'utf8' });
  if (!error) return { name: 'C++ compiler', found: stdout.split('\n')[0] ?? compiler(), state: 'ok' };
  return {
    name: 'C++ compiler',
    found: `${compiler()} is not installed${isBuilt ? '; the addon is built already' : ''}`,
    state: isBuilt ? 'warning' : 'missing',
    fix: process.platform === 'darwin' ? 'xcode-select --install' : 'sudo apt-get install g++',
  };
}

function libTorchMissing(tried: { place: string; why: string }[]): Finding {
  return {
    name: 'LibTorch',
    found: `not found. Tried ${tried.map(({ place, why }) => `${place}: ${why}`).join('; ')}`,
    state: 'missing',
    fix: process.env.LIBTORCH
      ? 'unset LIBTORCH   # or set it to a folder with include/ and lib/'
      : installTorch(hasGpu()),
  };
}

/** Returns the command that installs a LibTorch. */
export function installTorch(
  withCuda: boolean,
  platform: string = process.platform,
  arch: string = process.arch,
): string {
  const backend = proposedTorch(withCuda, platform, arch);
  return backend === undefined ? 'python3 -m pip install torch' : `ip-adapter install-torch ${backend}`;
}

function hasGpu(): boolean {
  return spawnSync('nvidia-smi', ['-L'], { stdio: 'ignore' }).status === 0;
}

function engine(libtorch: NonNullable<ReturnType<typeof findLibTorch>['libtorch']>): Finding[] {
  const warning = blasWarning(libtorch);
  const systemBlas = `/usr/lib/${TRIPLET}/libblas.so.3`;
  const isSystem = libtorch.lib.startsWith('/usr/lib') && existsSync(systemBlas);
  const blas = isSystem ? realpathSync(systemBlas) : "LibTorch's own";
  const isReference = /\/blas\/libblas/.test(blas);
  return [
    { name: 'LibTorch', found: `${libtorch.version} from ${libtorch.source}`, state: 'ok' },
    {
      name: 'BLAS',
      found:
        warning !== null
          ? `${blas}, whose threads slow LibTorch's down`
          : isReference
            ? `${blas}, which is slow`
            : blas,
      state: warning !== null || isReference ? 'warning' : 'ok',
      ...(warning !== null || isReference
        ? { fix: 'sudo apt-get install libopenblas0-openmp && sudo apt-get remove libopenblas0-pthread' }
        : {}),
    },
  ];
}

async function addon(isBuilt: boolean, hasCuda: boolean): Promise<Finding[]> {
  if (!isBuilt)
    return [
      {
        name: 'addon',
        found: 'not built yet: the first use builds it',
        state: 'warning',
        fix: 'ip-adapter build',
      },
    ];
  try {
    const { cudaDevices, jpegLibrary, torchVersion } = await import('../torch/index.js');
    const version = torchVersion();
    const devices = cudaDevices();
    const addon = (await import('../torch/native.js')).native();
    return [
      { name: 'addon', found: `${locateAddon().path}, runs with LibTorch ${version}`, state: 'ok' },
      jpeg(jpegLibrary()),
      cuda(hasCuda, devices, addon.cuda !== null),
      processes(addon.distributed, devices),
    ];
  } catch (error) {
    return [
      { name: 'addon', found: (error as Error).message, state: 'missing', fix: 'ip-adapter build --force' },
    ];
  }
}

function cuda(hasCuda: boolean, devices: number, hasGraphs: boolean): Finding {
  const name = 'CUDA';
  if (!hasCuda && hasGpu())
    return {
      name,
      found: 'there is a GPU, but this LibTorch has no CUDA',
      state: 'warning',
      fix: installTorch(true),
    };
  if (!hasCuda) return { name, found: 'none: this LibTorch and this machine are for the CPU', state: 'ok' };
  if (devices === 0)
    return {
      name,
      found: 'LibTorch has CUDA but finds no GPU',
      state: 'warning',
      fix: 'nvidia-smi   # says what is wrong with the driver',
    };
  if (hasGraphs) return { name, found: `${devices} GPU${devices === 1 ? '' : 's'}`, state: 'ok' };
  return {
    name,
    found: `${devices} GPU${devices === 1 ? '' : 's'}; --cuda-graphs needs CUDA's headers, which are missing`,
    state: 'warning',
    fix: 'python3 -m pip install nvidia-cuda-runtime nvidia-cuda-crt && ip-adapter build --force',
  };
}

/** @param distributed what the addon has of c10d; null without Gloo */
function processes(distributed: { hasNCCL: boolean } | null, devices: number): Finding {
  const name = 'several processes';
  if (distributed === null)
    return {
      name,
      found: 'not possible: this LibTorch has no c10d with Gloo',
      state: devices > 1 ? 'warning' : 'ok',
    };
  if (distributed.hasNCCL) return { name, found: 'by Gloo on CPUs, by NCCL on GPUs', state: 'ok' };
  if (devices < 2) return { name, found: 'by Gloo', state: 'ok' };
  return {
    name,
    found: `by Gloo, which is slow between ${devices} GPUs; NCCL's header is missing`,
    state: 'warning',
    fix: 'python3 -m pip install nvidia-nccl-cu13 && ip-adapter build --force   # cu12 for a LibTorch of CUDA 12',
  };
}

function threads(): Finding {
  const { OMP_NUM_THREADS } = process.env;
  const cores = `${availableParallelism()} cores`;
  const found = OMP_NUM_THREADS === undefined ? cores : `${cores}, OMP_NUM_THREADS is ${OMP_NUM_THREADS}`;
  return { name: 'threads', found, state: 'ok' };
}

function jpeg(library: string | null): Finding {
  const name = 'JPEG';
  if (library !== null) return { name, found: `${library} in the addon`, state: 'ok' };
  const found = 'read by sharp alone, more slowly: the addon was built without libjpeg-turbo';
  const fix = existsSync('/usr/bin/apt-get') ? 'sudo apt-get install libjpeg-dev && ip-adapter build' : null;
  return fix === null ? { name, found, state: 'ok' } : { name, found, state: 'warning', fix };
}

function imageThreads(): Finding {
  const name = 'image threads';
  const found = `${poolThreads()} of Node's threads read and decode images`;
  if (process.env.IP_ADAPTER_THREADPOOL === 'auto') return { name, found, state: 'ok' };
  if (poolThreads() >= availableParallelism())
    return { name, found: `${found}, as UV_THREADPOOL_SIZE says`, state: 'ok' };
  return {
    name,
    found: `${found}, fewer than there are cores`,
    state: 'warning',
    fix:
      process.env.UV_THREADPOOL_SIZE === undefined
        ? `export UV_THREADPOOL_SIZE=${availableParallelism()}`
        : 'unset UV_THREADPOOL_SIZE',
  };
}

async function memory(): Promise<Finding> {
  const { memoryLimit } = await import('../torch/memory-limit.js');
  const limit = memoryLimit();
  const bytes = limit?.bytes ?? totalmem();
  const found =
    limit === null
      ? gib(bytes)
      : `${gib(bytes)}, the limit of a control group (${dirname(limit.usageFile)}); the machine has ${gib(totalmem())}`;
  if (bytes >= LEAST_MEMORY) return { name: 'memory', found, state: 'ok' };
  return {
    name: 'memory',
    found: `${found}; training SD 1.5 needs about ${gib(LEAST_MEMORY)}`,
    state: 'warning',
    fix: 'ip-adapter train … --dry-run   # measures what your run needs',
  };
}

function disk(name: string, folder: string, needed: number, fix: string): Finding {
  let existing = folder;
  while (!existsSync(existing)) existing = dirname(existing);
  const { bavail, bsize } = statfsSync(existing);
  const free = bavail * bsize;
  const found = `${folder}, ${gib(free)} free`;
  return free >= needed
    ? { name, found, state: 'ok' }
    : { name, found: `${found}; ${gib(needed)} are needed`, state: 'warning', fix };
}

function gib(bytes: number): string {
  return `${(bytes / GiB).toFixed(1)} GiB`;
}
