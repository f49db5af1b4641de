export interface LibTorch {
  /** Where it was found, in words. */
  source: string;
  /** The folder that holds `ATen/ATen.h`. */
  include: string;
  /** The folder that holds `libtorch_cpu`. */
  lib: string;
  version: string;
  /** Whether `libtorch_cuda` is there. */
  cuda: boolean;
  /** The folder of CUDA's own headers; null where there is none. */
  cudaInclude: string | null;
  /** Whether it can connect processes over CPUs (Gloo). */
  gloo: boolean;
  /** The folder of NCCL's header, which connects processes over GPUs; null where there is none. */
  ncclInclude: string | null;
  cxx11Abi: boolean;
  cxxStandard: number;
}

export const TRIPLET: string;
export function findLibTorch(env?: NodeJS.ProcessEnv): {
  libtorch: LibTorch | null;
  tried: { place: string; why: string }[];
};
export function notFoundMessage(tried: { place: string; why: string }[]): string;
