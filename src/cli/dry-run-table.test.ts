import { expect, it } from 'vitest';
import type { DryRunReport } from '../training/dry-run/dry-run-report.js';
import { dryRunTable } from './dry-run-table.js';

const nothing = { mappedBytes: 0, heldBytes: 0, seconds: null, tensorBytes: null };
const report: DryRunReport = {
  totalSteps: 12000,
  doneSteps: 2000,
  losses: [0.12345, null],
  step: {
    images: 4,
    size: { width: 512, height: 384 },
    parts: [
      { ...nothing, name: 'reading images', seconds: 0.004 },
      { ...nothing, name: 'UNet', mappedBytes: 3.25 * 2 ** 30, heldBytes: 512 },
      { name: 'backward', mappedBytes: 0, heldBytes: 1536, seconds: 1.996, tensorBytes: 300 * 2 ** 20 },
    ],
    seconds: 2,
  },
  caches: [
    {
      ...{ name: 'VAE', mappedBytes: 2 ** 20, heldBytes: 0, seconds: 3, tensorBytes: 2 ** 21 },
      ...{ folder: 'out/cache/latents-1', exists: true },
      ...{ entries: 4000, diskBytes: 4000 * 2 ** 17, totalSeconds: 3000 },
    },
  ],
  memory: { tensors: 301 * 2 ** 20, resident: 4 * 2 ** 30, mostResident: 5 * 2 ** 30 },
  checkpoints: {
    sizes: { whole: 0.5 * 2 ** 30, adapter: 170 * 2 ** 20 },
    ...{ count: 5, bytes: 2.5 * 2 ** 30, peakBytes: 2.5 * 2 ** 30 },
  },
  disk: [{ folder: 'out', bytes: 3 * 2 ** 30, freeBytes: 2 * 2 ** 30 }],
  seconds: 23000,
  badRows: [],
};

it('has a line for each part, in units that fit, and the totals of the run', () => {
  expect(dryRunTable(report, true).split('\n')).toEqual([
    'Two steps were run, and the second measured: 4 images of 512x384.',
    'File-backed weights can be dropped from memory and read again; tensors are all others, gradients included.',
    '',
    'part                    file-backed        in memory     peak tensors          seconds',
    'reading images                    –                –                –             0.00',
    'UNet                        3.3 GiB            512 B                –                –',
    'backward                          –          1.5 KiB          300 MiB             2.00',
    'step                        3.3 GiB          2.0 KiB          301 MiB             2.00',
    '',
    'Encoded once, before the first step (estimated as if nothing were cached yet):',
    'part                    file-backed        in memory     peak tensors        encodings          on disk             time',
    'VAE                         1.0 MiB                –          2.0 MiB            4,000          500 MiB            50:00',
    'out/cache/latents-1 has encodings of the VAE already, which are not made again.',
    '',
    'losses      0.1235, not finite',
    'speed       2.00 s a step, 2.00 images/s',
    'memory      4.0 GiB resident after the steps (mapped files included), peak 5.0 GiB',
    'checkpoint  512 MiB, 170 MiB of them the adapter; the run leaves 5, 2.5 GiB in all',
    'disk        3.0 GiB at most for what the run writes; 2.0 GiB are free in out, too little: see --checkpoints-total-limit and --checkpoint-content',
    'steps       12,000 in all, 2,000 of them done; 10,000 left',
    'time        6:23:20 with the caches, without saving',
    'validation  not measured: validation images take additional time and memory',
  ]);
});

it('leaves out caches and validation where there are none', () => {
  const lines = dryRunTable({ ...report, doneSteps: 0, caches: [], seconds: 59 }, false).split('\n');
  expect(lines.slice(-2)).toEqual([
    'steps       12,000 in all; 12,000 left',
    'time        0:59, without saving',
  ]);
  expect(lines.join()).not.toContain('Encoded once');
});
