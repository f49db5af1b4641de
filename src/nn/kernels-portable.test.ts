/** @file The tests of functional.ts once more, with the loops for processors without AVX2 (native/kernels.cc). */
import process from 'node:process';

// Read when a kernel is first called, so before anything that loads the addon.
process.env.ATEN_CPU_CAPABILITY = 'default';
await import('./functional.test.js');
