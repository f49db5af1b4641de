/** @file What the processor can do. */
import { readFileSync } from 'node:fs';

let flags: ReadonlySet<string> | undefined;

/** Whether the processor has these instruction sets, as Linux names them; false where that cannot be known. */
export function hasCpuFlags(names: readonly string[]): boolean {
  flags ??= readFlags();
  return names.every((name) => flags?.has(name));
}

function readFlags(): ReadonlySet<string> {
  try {
    const [, line = ''] = /^flags\s*:(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8')) ?? [];
    return new Set(line.trim().split(/\s+/));
  } catch {
    // Another system than Linux.
    return new Set();
  }
}
