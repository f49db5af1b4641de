import type * as fs from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { readRun } from '../../../test/read-events.js';
import { EventFile, scalarsEvent } from './event-file.js';

/** A system that takes at most so many bytes in a write, and none once it is full. */
const system = vi.hoisted(() => ({ takes: Number.POSITIVE_INFINITY, room: Number.POSITIVE_INFINITY }));
vi.mock('node:fs', async (original) => {
  const real = await original<typeof fs>();
  const writeSync = (file: number, bytes: Uint8Array, offset = 0, length = bytes.length): number => {
    if (system.room <= 0)
      throw Object.assign(new Error('ENOSPC: no space left on device, write'), {
        code: 'ENOSPC',
        syscall: 'write',
      });
    const taken = real.writeSync(file, bytes, offset, Math.min(length, system.takes, system.room));
    system.room -= taken;
    return taken;
  };
  return { ...real, writeSync };
});

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'ip-adapter-events-'));
});
afterEach(() => {
  Object.assign(system, { takes: Number.POSITIVE_INFINITY, room: Number.POSITIVE_INFINITY });
  rmSync(folder, { recursive: true });
});

const steps = (): number[] => readRun(folder).map(({ step }) => step);

it('writes whole records where the system takes a few bytes at a time', () => {
  using file = new EventFile(folder, 1);
  system.takes = 7;
  for (const step of [1, 2, 3]) file.write([scalarsEvent(step, step, { loss: 1 })]);
  expect(steps()).toEqual([1, 2, 3]);
});

it('ends with a whole record where the disk is full, and can go on after it', () => {
  using file = new EventFile(folder, 1);
  file.write([scalarsEvent(1, 1, { loss: 1 })]);
  system.room = 10;
  expect(() => file.write([scalarsEvent(2, 2, { loss: 1 })])).toThrow(/ENOSPC/);
  expect(steps()).toEqual([1]);
  system.room = Number.POSITIVE_INFINITY;
  file.write([scalarsEvent(3, 3, { loss: 1 })]);
  expect(steps()).toEqual([1, 3]);
});
