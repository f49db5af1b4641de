/**
 * @file The unit and golden tests once more, with an addon that is compiled with AddressSanitizer and
 * UndefinedBehaviorSanitizer: a read outside of a block, a use after release, an overflow ends the test process.
 */
import { execFile, execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const reports = mkdtempSync(join(tmpdir(), 'sanitizers-'));
afterAll(() => rmSync(reports, { recursive: true }));

const sanitized = { ...process.env, IP_ADAPTER_SANITIZE: 'address,undefined' };

beforeAll(async () => {
  // Before the tests, whose time limits are those of a built addon.
  await promisify(execFile)(process.execPath, [join(root, 'tools/build-native.mjs')], { env: sanitized });
});

/** Where the compiler keeps a sanitizer's library. */
const library = (name: string): string =>
  execFileSync(process.env.CXX || 'g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();

it.runIf(process.platform === 'linux').each([
  ['src/torch', 'src/nn', 'src/formats', 'src/optim', 'src/images'],
  ['src/models', 'src/schedulers', 'src/adapters', 'src/diffusion', 'src/weights', 'src/generation'],
  ['src/data', 'src/training'],
])('no finding in %s', async (...folders) => {
  const common = `halt_on_error=1:log_path=${join(reports, 'report')}`;
  const vitest = join(root, 'node_modules/vitest/vitest.mjs');
  const { code, stdout } = await promisify(execFile)(
    process.execPath,
    // A sanitized process takes several times as long.
    [vitest, 'run', '--maxWorkers=1', '--testTimeout=600000', ...folders],
    {
      cwd: root,
      maxBuffer: 64 << 20,
      env: {
        ...sanitized,
        LD_PRELOAD: [library('libasan.so'), library('libubsan.so')].join(' '),
        // Node and LibTorch leave memory to the end of the process. Bus errors of cut files are the addon's to explain.
        // Freed blocks are kept for a while, but not so many that a test's memory limit is reached.
        ASAN_OPTIONS: `detect_leaks=0:handle_sigbus=0:quarantine_size_mb=64:${common}`,
        UBSAN_OPTIONS: `print_stacktrace=1:${common}`,
      },
    },
  ).then(
    ({ stdout }) => ({ code: 0, stdout }),
    (error: { code: number; stdout: string }) => error,
  );
  const findings = readdirSync(reports).map((file) => readFileSync(join(reports, file), 'utf8'));
  expect(findings).toEqual([]);
  expect(code, stdout.slice(-20_000)).toBe(0);
});
