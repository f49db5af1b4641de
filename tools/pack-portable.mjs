/**
 * @file Makes one archive for a machine that has a GPU, a C++ compiler and pip's torch, and neither Node.js nor the Internet: Node.js,
 * the packages that the check needs, and this checkout, built.
 *
 *     npm run pack-portable            writes build/ip-adapter-portable.tar.xz
 *
 * There:
 *
 *     tar xf ip-adapter-portable.tar.xz && sh ip-adapter/gpu-check.sh
 */
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import process from 'node:process';

const MOST_MIB = 64;
const ROOT = dirname(import.meta.dirname);
const ARCHIVE = join(ROOT, 'build/ip-adapter-portable.tar.xz');
const SCRIPT = `#!/bin/sh
# Builds the addon for the torch of this machine's python3 (or that of LIBTORCH), and checks it; see docs/gpu.md.
set -e
cd "$(dirname "$0")"
PATH="$PWD/bin:$PATH"
export PATH
node tools/build-native.mjs
exec node --import tsx tools/gpu-check/main.ts
`;

if (process.platform !== 'linux')
  throw new Error("The archive has this machine's Node.js, which must be one for Linux.");
const stage = mkdtempSync(join(tmpdir(), 'portable-'));
try {
  const folder = join(stage, 'ip-adapter');
  mkdirSync(join(folder, 'bin'), { recursive: true });
  cpSync(process.execPath, join(folder, 'bin/node'));
  execFileSync('strip', [join(folder, 'bin/node')]);
  const files = execFileSync('git', ['ls-files', '-z'], { cwd: ROOT, encoding: 'utf8' }).split('\0');
  const copied = [
    ...files.filter((file) => file !== '' && !file.startsWith('docs/images/')),
    ...neededPackages(),
    // Built, with the stamp that says so.
    ...['dist', 'build/dist.sha256'],
  ];
  for (const path of copied) cpSync(join(ROOT, path), join(folder, path), { recursive: true });
  writeFileSync(join(folder, 'gpu-check.sh'), SCRIPT, { mode: 0o755 });
  const names = { '--use-compress-program': 'xz -9 --threads=0', '--directory': stage, '--file': ARCHIVE };
  const options = Object.entries(names).map(([name, value]) => `${name}=${value}`);
  execFileSync('tar', ['--create', ...options, 'ip-adapter'], { stdio: 'inherit' });
} finally {
  rmSync(stage, { recursive: true });
}
const size = statSync(ARCHIVE).size / 2 ** 20;
console.log(`${ARCHIVE}: ${size.toFixed(1)} MiB`);
if (size > MOST_MIB) throw new Error(`The archive has more than ${MOST_MIB} MiB.`);

/** Returns the folders of the packages that are used at run time, of those that run the check, and of all that these depend on. */
function neededPackages() {
  const found = new Set();
  const add = (name, from) => {
    const path = [`${from}/node_modules/${name}`, `node_modules/${name}`].find((one) =>
      existsSync(join(ROOT, one)),
    );
    // One of another platform, or an optional one that is not installed.
    if (path === undefined || found.has(path)) return;
    found.add(path);
    const { dependencies, optionalDependencies, peerDependencies } = readManifest(path);
    for (const one of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies }))
      add(one, path);
  };
  for (const name of [...Object.keys(readManifest('.').dependencies), 'tsx', 'vitest']) add(name, '.');
  return [...found];
}

function readManifest(folder) {
  return JSON.parse(readFileSync(join(ROOT, folder, 'package.json'), 'utf8'));
}
