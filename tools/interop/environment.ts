/** @file What the peers need: a Python with pinned packages, and the source of ComfyUI_IPAdapter_plus. */
import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';

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

/** Runs a program to its end, with its messages on this one's. */
export function run(program: string, args: readonly string[]): void {
  execFileSync(program, args, { stdio: ['ignore', 'inherit', 'inherit'] });
}
