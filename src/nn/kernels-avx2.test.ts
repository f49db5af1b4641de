/** @file The tests of functional.ts once more, with the loops for AVX2 where there is AVX-512 (native/kernels.cc). */
import process from 'node:process';

// Read when a kernel is first called, so before anything that loads the addon.
process.env.ATEN_CPU_CAPABILITY = 'avx2';
await import('./functional.test.js');
