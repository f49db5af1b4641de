/** @file Repeats the tests of functional.ts and of our convolution with the AVX2 kernels, on processors with AVX-512 too (native/kernels.cc). */
import process from 'node:process';

// Must be set before the first call of a kernel.
process.env.ATEN_CPU_CAPABILITY = 'avx2';
await import('./functional.test.js');
await import('./convolution.test.js');
