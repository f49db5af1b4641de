import type { LibTorch } from './find-libtorch.mjs';

export interface BuildProgress {
  /** Files compiled so far; linking counts as one. */
  done: number;
  total: number;
  libtorch: LibTorch;
}

export class SetupError extends Error {}
export function locateAddon(): { path: string; isBuilt: boolean; libtorch: LibTorch };
export function buildNative(
  report: (progress: BuildProgress) => void,
  options?: { force?: boolean },
): Promise<{ path: string; built: boolean; libtorch: LibTorch }>;
export function progressLine(stream: NodeJS.WriteStream, prefix: string): (progress: BuildProgress) => void;
export function compiler(): string;
export function hasLibJpeg(): boolean;
