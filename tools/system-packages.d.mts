import type { LibTorch } from './find-libtorch.mjs';

export function blasWarning(libtorch: LibTorch): string | null;
export function missingPackages(): string[];
export function wantedPackages(): string[];
