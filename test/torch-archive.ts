/** @file A small archive with the files by which a LibTorch is found. Nothing can be built with it. */
import { createHash } from 'node:crypto';
import { type CraftedEntry, craftZip } from './craft-zip.js';

const machines: Readonly<Record<string, number>> = { x64: 62, arm64: 183 };

/** Returns the first bytes of an ELF library for a processor, and random-looking ones. */
export function library(bytes: number, arch: string = process.arch): Buffer {
  const data = Buffer.from(
    Uint32Array.from({ length: bytes / 4 }, (_, i) => Math.imul(i, 2654435761)).buffer,
  );
  data.write('\x7fELF', 0, 'latin1');
  data.writeUInt16LE(machines[arch] ?? 0, 18);
  return data;
}

/** @param root 'torch' as in wheels, or 'libtorch' as in the archives of pytorch.org */
export function torchEntries(root = 'torch', arch: string = process.arch): CraftedEntry[] {
  const [major, minor, patch] = [2, 13, 0];
  const version = `#define TORCH_VERSION_MAJOR ${major}\n#define TORCH_VERSION_MINOR ${minor}\n#define TORCH_VERSION_PATCH ${patch}\n`;
  return [
    { name: `${root}/include/ATen/ATen.h`, data: '#error C++20 or later compatible compiler is required\n' },
    { name: `${root}/include/torch/headeronly/version.h`, data: version },
    { name: `${root}/lib/libtorch_cpu.so`, data: library(2_000_000, arch), mode: 0o100755 },
    { name: `${root}/lib/libc10.so`, data: library(1000, arch) },
    { name: `${root}/lib/libgomp.so.1`, data: library(1000, arch) },
    { name: `${root}/lib/libtorch_python.so`, data: library(1000, arch) },
    { name: `${root}/lib/libshm/core.h`, data: '' },
    { name: `${root}/share/cmake/Torch/TorchConfig.cmake`, data: '' },
    { name: `${root}/__init__.py`, data: 'print("no")' },
    { name: 'torch.libs/libgfortran.so.5', data: library(1000, arch) },
    { name: 'torch-2.13.0.dist-info/METADATA', data: 'Name: torch\n' },
  ];
}

export function torchArchive(root?: string, arch?: string): Buffer {
  return craftZip(torchEntries(root, arch));
}

export const sha256 = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');
