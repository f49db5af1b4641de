/** @file Repeats the tests of functional.ts and of our convolution with the kernels for processors without AVX2 (native/kernels.cc). */
import process from 'node:process';

// Must be set before the first call of a kernel.
process.env.ATEN_CPU_CAPABILITY = 'default';
await import('./functional.test.js');
await import('./convolution.test.js');
