/**
 * @file Builds the addon: `native/*.cc` → `build/ip_adapter.node`, with one compiler call a file and one to
 * link. Plain Node and a C++ compiler are all it needs; `node tools/build-native.mjs` works in a checkout
 * and in an installed package alike. `build/ip_adapter.json` beside it says what it was built from.
 * `--force` builds everything again.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';
import { fileURLToPath } from 'node:url';
import { findLibTorch, notFoundMessage } from './find-libtorch.mjs';

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const NATIVE = join(ROOT, 'native');
const BUILD = join(ROOT, 'build');
const OBJECTS = join(BUILD, 'objects');
const ADDON = join(BUILD, 'ip_adapter.node');
const STAMP = join(BUILD, 'ip_adapter.json');
const MACOS = process.platform === 'darwin';

/** A fault the user can mend: shown without a stack trace. */
export class SetupError extends Error {}

/**
 * Builds what is out of date and nothing else.
 * @param {(line: string) => void} log is told what is done, one short line each
 * @returns {Promise<{ built: boolean, libtorch: import('./find-libtorch.mjs').LibTorch }>}
 * @throws {SetupError} no LibTorch, no compiler, or a file that does not compile
 */
export async function buildNative(log) {
  const { libtorch, tried } = findLibTorch();
  if (!libtorch) throw new SetupError(notFoundMessage(tried));
  const plan = makePlan(libtorch);
  if (isBuilt(plan)) return { built: false, libtorch };

  mkdirSync(OBJECTS, { recursive: true });
  const stale = plan.units.filter(({ object }) => !existsSync(object));
  log(`LibTorch ${libtorch.version}${libtorch.cuda ? ' with CUDA' : ''}: ${libtorch.source}`);
  log(`compiling ${stale.length} of ${plan.units.length} C++ files`);
  await eachInParallel(stale, async ({ source, object }) => {
    await produce(object, (temporary) => [...plan.compile, '-c', source, '-o', temporary]);
  });
  await produce(ADDON, (temporary) => plan.link(temporary));
  writeFileSync(STAMP, `${JSON.stringify({ hash: plan.hash, ...libtorch }, null, 2)}\n`);
  removeOldObjects(plan);
  return { built: true, libtorch };
}

/** The compiler: $CXX, else the platform's usual one. */
export function compiler() {
  return process.env.CXX || (MACOS ? 'clang++' : 'g++');
}

/** All commands of a build, and the hash of everything that goes into it. */
function makePlan(libtorch) {
  const require = createRequire(import.meta.url);
  const includes = [
    dirname(require.resolve('node-addon-api/package.json')),
    join(dirname(require.resolve('node-api-headers/package.json')), 'include'),
    ...systemFree([
      libtorch.include,
      join(libtorch.include, 'torch/csrc/api/include'),
      ...(libtorch.cudaInclude ? [libtorch.cudaInclude] : []),
    ]),
  ];
  // The threads of our own loops. A LibTorch that brings an OpenMP of another name would get a second one by it.
  const sharesOpenMP = libtorch.version.startsWith('1.') || existsSync(join(libtorch.lib, 'libgomp.so.1'));
  const threads = !MACOS && sharesOpenMP ? ['-fopenmp'] : [];
  const compile = [
    `-std=c++${libtorch.cxxStandard}`,
    '-O2',
    '-fPIC',
    '-fvisibility=hidden',
    '-Wall',
    // GCC 12 sees an overflow in LibTorch 1.13's inlined IValue that is none; clang knows no such warning.
    '-Wno-stringop-overflow',
    '-Wno-unknown-warning-option',
    '-DNAPI_VERSION=8',
    '-DNAPI_CPP_EXCEPTIONS',
    ...(MACOS ? [] : [`-D_GLIBCXX_USE_CXX11_ABI=${libtorch.cxx11Abi ? 1 : 0}`]),
    ...threads,
    ...(libtorch.cudaInclude ? ['-DIP_ADAPTER_CUDA'] : []),
    // As system headers: their warnings are not ours to mend.
    ...includes.map((folder) => `-isystem${folder}`),
  ];
  const files = existsSync(NATIVE) ? readdirSync(NATIVE).sort() : [];
  const headers = hash(
    files.filter((file) => file.endsWith('.h')).map((file) => readFileSync(join(NATIVE, file))),
  );
  const common = hash([compiler(), JSON.stringify(compile), libtorch.version, libtorch.lib, headers]);
  const units = files
    .filter((file) => file.endsWith('.cc'))
    .map((file) => {
      const source = join(NATIVE, file);
      const key = hash([common, readFileSync(source)]).slice(0, 16);
      return { source, object: join(OBJECTS, `${file.slice(0, -3)}-${key}.o`) };
    });
  if (units.length === 0) throw new SetupError(`Expected C++ files in ${NATIVE} but found none.`);

  const cuda = libtorch.cuda ? ['-ltorch_cuda', '-lc10_cuda'] : [];
  const link = (output) => [
    ...(MACOS ? ['-bundle', '-undefined', 'dynamic_lookup'] : ['-shared', '-Wl,--no-as-needed']),
    ...threads,
    ...units.map(({ object }) => object),
    `-L${libtorch.lib}`,
    `-Wl,-rpath,${libtorch.lib}`,
    '-ltorch_cpu',
    '-lc10',
    ...cuda,
    '-ltorch',
    '-o',
    output,
  ];
  return { compile, link, units, hash: hash([common, JSON.stringify(link(ADDON))]) };
}

/** `-isystem /usr/include` would reorder the compiler's own search and break libstdc++'s #include_next. */
function systemFree(folders) {
  return folders.filter(
    (folder) => folder !== '/usr/include' && folder !== '/usr/local/include' && existsSync(folder),
  );
}

function isBuilt(plan) {
  if (!existsSync(ADDON) || !existsSync(STAMP)) return false;
  try {
    return JSON.parse(readFileSync(STAMP, 'utf8')).hash === plan.hash;
  } catch {
    return false; // a stamp cut short by a full disk is no stamp
  }
}

/** Runs the compiler into a temporary name and renames: an interrupted build leaves nothing half-made. */
async function produce(file, args) {
  const temporary = `${file}.${process.pid}.tmp`;
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
        fail(
          new SetupError(
            `Expected a C++ compiler named ${command} but there is none. Install one: ${remedy}`,
          ),
        );
      } else if (error) {
        const line = [command, ...args].map((word) => (/[\s"'$]/.test(word) ? `'${word}'` : word)).join(' ');
        fail(new SetupError(`The C++ compiler failed:\n${stderr}\nThe command was:\n  ${line}`));
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

function removeOldObjects(plan) {
  const current = new Set(plan.units.map(({ object }) => object));
  for (const file of readdirSync(OBJECTS)) {
    const object = join(OBJECTS, file);
    if (object.endsWith('.o') && !current.has(object)) rmSync(object);
  }
}

function hash(parts) {
  const sha = createHash('sha256');
  for (const part of parts) sha.update(part).update('\0');
  return sha.digest('hex');
}

if (fileURLToPath(import.meta.url) === realpathSync(process.argv[1] ?? '.')) {
  const start = Date.now();
  if (process.argv.includes('--force')) rmSync(BUILD, { recursive: true, force: true });
  try {
    const { built } = await buildNative((line) => console.log(line));
    console.log(
      built ? `built build/ip_adapter.node in ${((Date.now() - start) / 1000).toFixed(1)} s` : 'up to date',
    );
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    console.error(error.message);
    process.exitCode = 1;
  }
}
