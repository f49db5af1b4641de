/**
 * @file A preload module (`node --import`) that makes one change of the file system fail, or kills the process at it.
 *
 *     FAULT_ROOT   counts changes below this folder only
 *     FAULT_LOG    a file that gets a line for each change: its number from 1, the function, the path
 *     FAULT_AT     the number of the change that fails
 *     FAULT        KILL, or an error code such as ENOSPC; KILL dies half-way through where a change has more than one part
 */
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { join, resolve } from 'node:path';
import { threadId } from 'node:worker_threads';

const { FAULT_ROOT: root, FAULT_LOG: log, FAULT: fault, FAULT_AT: at } = process.env;
const real = { ...fs };
const paths = new Map();
let count = 0;

const isBelow = (path) => typeof path === 'string' && resolve(path).startsWith(root);

function die() {
  process.kill(process.pid, 'SIGKILL');
  for (;;);
}

/** @param half does a part of the change */
function change(name, path, half) {
  count++;
  if (log !== undefined) real.appendFileSync(log, `${count} ${name} ${path}\n`);
  if (count !== Number(at)) return;
  if (fault === 'KILL') {
    half?.();
    die();
  }
  throw Object.assign(new Error(`${fault}: injected, ${name} '${path}'`), {
    code: fault,
    errno: -1,
    syscall: name,
    path,
  });
}

/** Functions of a path; what they are given first. */
for (const name of ['mkdirSync', 'rmdirSync', 'unlinkSync', 'truncateSync'])
  fs[name] = (path, ...args) => {
    if (isBelow(path)) change(name, path);
    return real[name](path, ...args);
  };

fs.rmSync = (path, options) => {
  // What is not there is not changed.
  if (isBelow(path) && real.lstatSync(path, { throwIfNoEntry: false }) !== undefined)
    change('rmSync', path, () => {
      if (!real.lstatSync(path).isDirectory()) return;
      const [first] = real.readdirSync(path);
      if (first !== undefined) real.rmSync(join(path, first), { recursive: true });
    });
  return real.rmSync(path, options);
};

for (const name of ['renameSync', 'symlinkSync', 'linkSync'])
  fs[name] = (from, to, ...args) => {
    if (isBelow(to)) change(name, to);
    return real[name](from, to, ...args);
  };

fs.openSync = (path, flags = 'r', ...args) => {
  const changes = isBelow(path) && flags !== 'r';
  if (changes) change('openSync', path);
  const file = real.openSync(path, flags, ...args);
  if (changes) paths.set(file, path);
  return file;
};

fs.closeSync = (file) => {
  paths.delete(file);
  return real.closeSync(file);
};

for (const name of ['fsyncSync', 'ftruncateSync'])
  fs[name] = (file, ...args) => {
    if (paths.has(file)) change(name, paths.get(file));
    return real[name](file, ...args);
  };

fs.writeSync = (file, bytes, offset = 0, length = bytes.length - offset, ...args) => {
  if (paths.has(file))
    change('writeSync', paths.get(file), () => real.writeSync(file, bytes, offset, Math.floor(length / 2)));
  return real.writeSync(file, bytes, offset, length, ...args);
};

fs.writeFileSync = (path, content, ...args) => {
  const name = typeof path === 'number' ? paths.get(path) : path;
  if (isBelow(name))
    change('writeFileSync', name, () => real.writeFileSync(path, content.slice(0, content.length / 2)));
  return real.writeFileSync(path, content, ...args);
};

// The thread that shows signs of life has a copy of its own.
if (threadId === 0) syncBuiltinESMExports();
