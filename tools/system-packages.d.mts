import type { LibTorch } from './find-libtorch.mjs';

export function blasWarning(libtorch: LibTorch): string | null;
export function missingBrowser(): string[];
export function missingPackages(): string[];
export function wantedPackages(): string[];
