/**
 * @file Builds the addon from `native/`, with one compiler call per file and one for linking. It needs only Node and a C++
 * compiler, so it works in a checkout and in an installed package.
 *
 * The addon is cached per user, in a folder named after LibTorch's version and a hash of everything that the build depends
 * on: checkouts and installed packages with the same sources share it. Object files are shared in the same way. Each file
 * is written under a temporary name and renamed, so that two builds can run at the same time.
 */
import { execFile } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { cacheFolder } from './cache-folder.mjs';
import { findLibTorch, notFoundMessage, TRIPLET } from './find-libtorch.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NATIVE = join(ROOT, 'native');
const MACOS = process.platform === 'darwin';
const KEEP_OBJECTS_DAYS = 30;

/** An error that the user can fix: shown without a stack trace. */
export class SetupError extends Error {}

/**
 * Finds the addon for this machine's LibTorch. Does not build it.
 * @returns {{ path: string, isBuilt: boolean, libtorch: import('./find-libtorch.mjs').LibTorch }}
 * @throws {SetupError} where there is no LibTorch
 */
export function locateAddon() {
  const libtorch = requireLibTorch();
  const { addon } = makePlan(libtorch);
  return { path: addon, isBuilt: existsSync(addon), libtorch };
}

/**
 * Builds the addon. Compiles only files that have changed.
 * @param {(progress: import('./build-native.d.mts').BuildProgress) => void} report called at the start and after each file
 * @param {{ force?: boolean }} options `force` compiles every file again
 * @returns {Promise<{ path: string, built: boolean, libtorch: import('./find-libtorch.mjs').LibTorch }>}
 * @throws {SetupError} no LibTorch, no compiler, a file that does not compile, or a cache that cannot be written
 */
export async function buildNative(report, { force = false } = {}) {
  const libtorch = requireLibTorch();
  const plan = makePlan(libtorch);
  if (existsSync(plan.addon) && !force) return { path: plan.addon, built: false, libtorch };
  makeFolder(dirname(plan.addon));
  makeFolder(plan.objects);
  const stale = plan.units.filter(({ object }) => force || !markUsed(object));
  const total = stale.length + 1;
  let done = 0;
  report({ done, total, libtorch });
  await eachInParallel(stale, async ({ source, object }) => {
    await produce(object, (temporary) => [...plan.compile, '-c', source, '-o', temporary]);
    report({ done: ++done, total, libtorch });
  });
  await produce(plan.addon, plan.link);
  report({ done: total, total, libtorch });
  removeOldObjects(plan.objects);
  return { path: plan.addon, built: true, libtorch };
}

/**
 * Returns a reporter that writes its progress to a stream: in one line on a terminal, else a line every ten seconds.
 * @param {NodeJS.WriteStream} stream
 * @param {string} prefix such as 'First use: '
 */
export function progressLine(stream, prefix) {
  let last = Number.NEGATIVE_INFINITY;
  return ({ done, total, libtorch }) => {
    const version = libtorch.version.split('.').slice(0, 2).join('.');
    const cuda = libtorch.ncclInclude ? ' with CUDA and NCCL' : libtorch.cuda ? ' with CUDA' : '';
    const line = `${prefix}building the native addon for LibTorch ${version}${cuda} (about a minute) ${done}/${total}`;
    if (stream.isTTY) stream.write(`\r${line}${done === total ? '\n' : ' …'}`);
    else if (done === 0 || done === total || Date.now() - last > 10_000) {
      last = Date.now();
      stream.write(`${line}${done === total ? '' : ' …'}\n`);
    }
  };
}

function requireLibTorch() {
  const { libtorch, tried } = findLibTorch();
  if (!libtorch) throw new SetupError(notFoundMessage(tried));
  return libtorch;
}

function makeFolder(folder) {
  try {
    mkdirSync(folder, { recursive: true });
  } catch (error) {
    throw new SetupError(
      `The folder for the compiled addon cannot be created: ${error.message}. ` +
        'Set IP_ADAPTER_CACHE to a folder that you can write to.',
    );
  }
}

/** Sets the date of an object file to now, and returns whether it exists. */
function markUsed(object) {
  if (!existsSync(object)) return false;
  utimesSync(object, new Date(), new Date());
  return true;
}

/** Returns the compiler: $CXX, else the platform's default. */
export function compiler() {
  return process.env.CXX || (MACOS ? 'clang++' : 'g++');
}

/** Returns whether the system has the headers of libjpeg-turbo, which images are read faster with. */
export function hasLibJpeg() {
  const header = '/usr/include/jpeglib.h';
  const configs = ['/usr/include/jconfig.h', `/usr/include/${TRIPLET}/jconfig.h`];
  return (
    existsSync(header) &&
    configs.some((file) => existsSync(file) && /LIBJPEG_TURBO_VERSION/.test(readFileSync(file, 'utf8')))
  );
}

/** Returns all commands of a build, and the paths of its results. */
function makePlan(libtorch) {
  const require = createRequire(import.meta.url);
  const headerPackages = [
    require.resolve('node-addon-api/package.json'),
    require.resolve('node-api-headers/package.json'),
  ].map((manifest) => ({
    folder: dirname(manifest),
    version: JSON.parse(readFileSync(manifest, 'utf8')).version,
  }));
  const [addonApi, apiHeaders] = headerPackages;
  // The calls of OpenMP go to LibTorch's own library, which is not named here: wheels have a copy of another name, and a second
  // library would have a second pool of threads.
  const hasOpenMP =
    libtorch.version.startsWith('1.') ||
    readdirSync(libtorch.lib).some((name) => /^libgomp.*\.so/.test(name));
  const threads = !MACOS && hasOpenMP ? ['-fopenmp'] : [];
  const sanitizers = process.env.IP_ADAPTER_SANITIZE;
  const sanitize = sanitizers
    ? [`-fsanitize=${sanitizers}`, '-fno-sanitize=vptr', '-fno-omit-frame-pointer', '-g1']
    : [];
  const libtorchIncludes = systemFree([
    libtorch.include,
    join(libtorch.include, 'torch/csrc/api/include'),
    ...(libtorch.cudaInclude ? [libtorch.cudaInclude] : []),
    ...(libtorch.ncclInclude ? [libtorch.ncclInclude] : []),
  ]);
  const flags = [
    `-std=c++${libtorch.cxxStandard}`,
    '-O2',
    '-fPIC',
    '-fvisibility=hidden',
    '-Wall',
    // GCC 12 reports an overflow in LibTorch 1.13's inlined IValue that does not exist. clang does not have this warning.
    '-Wno-stringop-overflow',
    '-Wno-unknown-warning-option',
    '-DNAPI_VERSION=8',
    '-DNAPI_CPP_EXCEPTIONS',
    // If a worker is terminated during a call, the error of the call cannot be thrown in it any more.
    '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
    ...(MACOS ? [] : [`-D_GLIBCXX_USE_CXX11_ABI=${libtorch.cxx11Abi ? 1 : 0}`]),
    ...threads,
    ...sanitize,
    ...(libtorch.cudaInclude ? ['-DIP_ADAPTER_CUDA'] : []),
    ...(libtorch.gloo ? ['-DUSE_C10D_GLOO'] : []),
    ...(libtorch.ncclInclude ? ['-DUSE_C10D_NCCL'] : []),
    ...(hasLibJpeg() ? ['-DIP_ADAPTER_LIBJPEG'] : []),
    // System headers, so that their warnings are not shown.
    ...libtorchIncludes.map((folder) => `-isystem${folder}`),
  ];
  // The result does not depend on where this package is installed, so these paths are not in the hash.
  const local = [
    `-I${NATIVE}`,
    // LibTorch contains Gloo, but not its headers.
    `-isystem${join(NATIVE, 'c10d-gloo')}`,
    `-isystem${addonApi.folder}`,
    `-isystem${join(apiHeaders.folder, 'include')}`,
  ];
  const link = [
    ...(MACOS
      ? ['-bundle', '-undefined', 'dynamic_lookup']
      : // Node unloads the addon with the last worker that uses it, but LibTorch's threads and tables cannot be unloaded.
        ['-shared', '-Wl,--no-as-needed', '-Wl,-z,nodelete']),
    ...sanitize,
  ];
  const libraries = [
    `-L${libtorch.lib}`,
    `-Wl,-rpath,${libtorch.lib}`,
    '-ltorch_cpu',
    '-lc10',
    ...(libtorch.cuda ? ['-ltorch_cuda', '-lc10_cuda'] : []),
    '-ltorch',
    ...(hasLibJpeg() ? ['-ljpeg'] : []),
  ];

  const files = existsSync(NATIVE) ? readdirSync(NATIVE, { recursive: true }).sort() : [];
  const sourceHash = (file) => hash([file, readFileSync(join(NATIVE, file))]);
  // LibTorch's own headers include these.
  const headers = files.filter((file) => file.startsWith('c10d-gloo') && file.endsWith('.h')).map(sourceHash);
  const common = hash([
    compiler(),
    ...flags,
    ...headerPackages.map(({ version }) => version),
    libtorch.version,
    libtorch.lib,
    ...headers,
  ]);
  const objects = join(cacheFolder(), 'objects');
  const units = files
    .filter((file) => file.endsWith('.cc'))
    .map((file) => {
      const key = hash([common, ...withIncludes(file).map(sourceHash)]).slice(0, 16);
      const name = file.slice(0, -3).replaceAll(/[/\\]/g, '-');
      return { source: join(NATIVE, file), object: join(objects, `${name}-${key}.o`) };
    });
  if (units.length === 0) throw new SetupError(`Expected C++ files in ${NATIVE} but found none.`);
  const key = hash([common, ...link, ...libraries, ...units.map(({ object }) => object)]).slice(0, 16);
  return {
    compile: [...flags, ...local],
    link: (output) => [...link, ...units.map(({ object }) => object), ...libraries, '-o', output],
    units,
    objects,
    addon: join(cacheFolder(), `libtorch-${libtorch.version}-${key}`, 'ip_adapter.node'),
  };
}

/** Returns a source file of ours and all of ours that it includes, also indirectly. */
function withIncludes(file, found = new Set()) {
  if (found.has(file)) return [];
  found.add(file);
  const text = readFileSync(join(NATIVE, file), 'utf8');
  const included = Array.from(text.matchAll(/^#include "(.+)"$/gm), ([, name]) => name);
  return [file, ...included.flatMap((name) => withIncludes(name, found))];
}

/** `-isystem /usr/include` would reorder the compiler's search path and break libstdc++'s #include_next. */
function systemFree(folders) {
  return folders.filter(
    (folder) => folder !== '/usr/include' && folder !== '/usr/local/include' && existsSync(folder),
  );
}

/** Runs the compiler with a temporary output and renames it, so that an interrupted build leaves no partial file. */
async function produce(file, args) {
  const temporary = `${file}.${randomUUID()}.tmp`;
  try {
    await run(compiler(), args(temporary));
    renameSync(temporary, file);
  } finally {
    rmSync(temporary, { force: true });
  }
}

function run(command, args) {
  return new Promise((done, fail) => {
    execFile(command, args, { maxBuffer: 64 << 20 }, (error, _stdout, stderr) => {
      if (error?.code === 'ENOENT') {
        const remedy = MACOS ? 'xcode-select --install' : 'sudo apt-get install g++';
        fail(new SetupError(`The C++ compiler ${command} is not installed. Install one: ${remedy}`));
      } else if (error) {
        const line = [command, ...args].map((word) => (/[\s"'$]/.test(word) ? `'${word}'` : word)).join(' ');
        fail(
          new SetupError(`The C++ compiler failed:\n${stderr || error.message}\nThe command was:\n  ${line}`),
        );
      } else {
        if (stderr) process.stderr.write(stderr);
        done();
      }
    });
  });
}

async function eachInParallel(items, work) {
  const queue = [...items];
  const worker = async () => {
    for (let item = queue.shift(); item; item = queue.shift()) await work(item);
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
}

/** Removes the object files that no build has used for a month. */
function removeOldObjects(objects) {
  const oldest = Date.now() - KEEP_OBJECTS_DAYS * 86_400_000;
  for (const file of readdirSync(objects)) {
    const path = join(objects, file);
    const { mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? { mtimeMs: Date.now() };
    if (mtimeMs < oldest) rmSync(path, { force: true });
  }
}

function hash(parts) {
  const sha = createHash('sha256');
  for (const part of parts) sha.update(part).update('\0');
  return sha.digest('hex');
}

// The library runs this file if the addon is missing.
if (fileURLToPath(import.meta.url) === realpathSync(process.argv[1] ?? '.')) {
  try {
    await buildNative(progressLine(process.stderr, 'First use: '));
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
