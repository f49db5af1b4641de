/**
 * @file Which test files share the processes of the test workers. To start a process, import the sources and load LibTorch takes
 * more than a second, longer than the tests of most files.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Marks of a test that needs a process of its own, because it measures or changes what belongs to the process: memory, live
 * tensors, threads, environment, listeners, replaced modules, the default generator.
 */
const OWN_PROCESS =
  /memoryUsage|memoryStats|liveTensors|setMemoryLimit|[cC]pu(Memory|Peak)|setNumThreads|process\.(env|on|once|chdir)|\bvi\.|\b(randn|rand|randint)\((?!.*generator)/;

/** Returns the test files of `src/` that can share a process, from the repository's root. */
export function sharingTests(root: string): string[] {
  return readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.test.ts') && !name.endsWith('.long.test.ts'))
    .map((name) => join('src', name))
    .filter((file) => !OWN_PROCESS.test(readFileSync(join(root, file), 'utf8')));
}
