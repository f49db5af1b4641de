/** @file Writes the report of a dry run as text. */
import { formatBytes } from '../base/format-bytes.js';
import { formatDuration } from '../base/format-duration.js';
import { counted } from '../base/listing.js';
import type { DiskNeed } from '../training/checkpoints/disk-space.js';
import type { CacheMeasures, DryRunReport, PartMeasures } from '../training/dry-run/dry-run-report.js';

/** @param hasValidation whether the run will generate validation images */
export function dryRunTable(report: DryRunReport, hasValidation: boolean): string {
  const { step, caches, losses, memory, checkpoints, disk, totalSteps, doneSteps } = report;
  const { images, size } = step;
  const count = (n: number): string => n.toLocaleString('en');
  const left = Math.max(0, totalSteps - doneSteps);
  const facts: [name: string, value: string][] = [
    ['losses', losses.map((loss) => loss?.toFixed(4) ?? 'not finite').join(', ')],
    ['speed', `${seconds(step.seconds)} s a step, ${(images / step.seconds).toFixed(2)} images/s`],
    [
      'memory',
      `${bytes(memory.resident)} resident after the steps (mapped files included), peak ${bytes(memory.mostResident)}`,
    ],
    [
      'checkpoint',
      `${bytes(checkpoints.sizes.whole)}, ${bytes(checkpoints.sizes.adapter)} of them the adapter; the run leaves ${count(checkpoints.count)}, ${bytes(checkpoints.bytes)} in all`,
    ],
    ...disk.map((need): [string, string] => ['disk', diskLine(need)]),
    [
      'steps',
      `${count(totalSteps)} in all${doneSteps === 0 ? '' : `, ${count(doneSteps)} of them done`}; ${count(left)} left`,
    ],
    [
      'time',
      `${formatDuration(report.seconds)}${caches.length === 0 ? '' : ' with the caches'}, without saving`,
    ],
  ];
  if (hasValidation)
    facts.push(['validation', 'not measured: validation images take additional time and memory']);
  return [
    `Two steps were run, and the second measured: ${counted(images, 'image')} of ${size.width}x${size.height}.`,
    'File-backed weights can be dropped from memory and read again; tensors are all others, gradients included.',
    '',
    ...stepTable(step.parts, step.seconds, memory.tensors),
    ...cacheTable(caches),
    '',
    ...facts.map(([name, value]) => `${name.padEnd(12)}${value}`),
  ].join('\n');
}

function stepTable(
  parts: readonly PartMeasures[],
  stepSeconds: number,
  tensorBytes: number | null,
): string[] {
  const sum = (field: 'mappedBytes' | 'heldBytes'): number =>
    parts.reduce((total, part) => total + part[field], 0);
  const total: PartMeasures = {
    name: 'step',
    mappedBytes: sum('mappedBytes'),
    heldBytes: sum('heldBytes'),
    tensorBytes,
    seconds: stepSeconds,
  };
  return [
    row('part', 'file-backed', 'in memory', 'peak tensors', 'seconds'),
    ...[...parts, total].map((part) => row(part.name, ...memoryOf(part), seconds(part.seconds))),
  ];
}

function cacheTable(caches: readonly CacheMeasures[]): string[] {
  if (caches.length === 0) return [];
  return [
    '',
    'Encoded once, before the first step (estimated as if nothing were cached yet):',
    row('part', 'file-backed', 'in memory', 'peak tensors', 'encodings', 'on disk', 'time'),
    ...caches.map((cache) =>
      row(
        cache.name,
        ...memoryOf(cache),
        cache.entries.toLocaleString('en'),
        bytes(cache.diskBytes),
        formatDuration(cache.totalSeconds),
      ),
    ),
    ...caches
      .filter(({ exists }) => exists)
      .map(({ name, folder }) => `${folder} has encodings of the ${name} already, which are not made again.`),
  ];
}

function row(name: string, ...cells: string[]): string {
  return name.padEnd(18) + cells.map((cell) => cell.padStart(17)).join('');
}

function memoryOf({ mappedBytes, heldBytes, tensorBytes }: PartMeasures): [string, string, string] {
  return [bytes(mappedBytes), bytes(heldBytes), bytes(tensorBytes)];
}

function diskLine({ folder, bytes: needed, freeBytes }: DiskNeed): string {
  const remedy =
    needed > freeBytes ? ', too little: see --checkpoints-total-limit and --checkpoint-content' : '';
  return `${bytes(needed)} at most for what the run writes; ${bytes(freeBytes)} are free in ${folder}${remedy}`;
}

function seconds(value: number | null): string {
  return value === null ? '–' : value.toFixed(2);
}

/** Returns a dash for 0 and for what is not known: no part has so little that it would be measured as 0. */
function bytes(value: number | null): string {
  return value === null || value === 0 ? '–' : formatBytes(value);
}
