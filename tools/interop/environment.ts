/** @file What the peers need: a Python with pinned packages, and the source of ComfyUI_IPAdapter_plus. */
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import process from 'node:process';

const comfyUI = {
  repository: 'https://github.com/cubiq/ComfyUI_IPAdapter_plus',
  commit: '9d076a3df0d2763cef5510ec5ab807f6632c39f5',
};

/** Returns the Python of a new environment in a folder, with the packages of requirements.txt. */
export function createPython(folder: string): string {
  const python = join(folder, 'venv/bin/python');
  if (!existsSync(python)) run('python3', ['-m', 'venv', join(folder, 'venv')]);
  run(python, ['-m', 'pip', 'install', '--quiet', '-r', join(import.meta.dirname, 'requirements.txt')]);
  return python;
}

/** Returns the folder of a checkout of ComfyUI_IPAdapter_plus at the pinned commit. */
export function checkOutComfyUI(folder: string): string {
  const path = join(folder, 'ComfyUI_IPAdapter_plus');
  if (!existsSync(path)) run('git', ['clone', '--quiet', comfyUI.repository, path]);
  run('git', ['-C', path, 'checkout', '--quiet', comfyUI.commit]);
  return path;
}

/** Returns whether a Python has a package. */
export function hasPackage(python: string, name: string): boolean {
  return spawnSync(python, ['-c', `import ${name}`]).status === 0;
}

/** Returns the versions of the peers' packages, such as 'torch 2.13.0'. */
export function versionsOf(python: string): string[] {
  const names = ['torch', 'diffusers', 'transformers', 'accelerate', 'safetensors'];
  const words = names.map((name) => `'${name} ' + version('${name}')`).join(', ');
  const code = `from importlib.metadata import version; print(${words}, sep='\\n')`;
  return run(python, ['-c', code]).trim().split('\n');
}

/**
 * Runs a program to its end and returns what it prints. It gets one thread, since the models are tiny.
 * @throws an error with the program's messages where it fails
 */
export function run(program: string, args: readonly string[]): string {
  const env = { ...process.env, OMP_NUM_THREADS: '1' };
  return execFileSync(program, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
    env,
  });
}
