/** @file Building the addon at its first use, in a cache that is empty. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterAll, expect, it } from 'vitest';

const root = join(import.meta.dirname, '../..');
const cache = mkdtempSync(join(tmpdir(), 'cache-'));
afterAll(() => rmSync(cache, { recursive: true }));

const env = { ...process.env, IP_ADAPTER_CACHE: cache };
const sum = (): Promise<{ stdout: string; stderr: string }> =>
  promisify(execFile)(
    process.execPath,
    [
      '--input-type=module',
      '-e',
      `const { tensor } = await import('./dist/torch/index.js'); console.log(tensor([1, 2], [2]).sum().item());`,
    ],
    { cwd: root, env },
  );

it('two processes that build at once do each other no harm, and later ones build nothing', async () => {
  const both = await Promise.all([sum(), sum()]);
  for (const { stdout, stderr } of both) {
    expect(stdout).toBe('3\n');
    expect(stderr).toMatch(
      /^First use: building the native addon for LibTorch .* \(about a minute\) 0\/\d+ …$/m,
    );
  }
  expect(await sum()).toEqual({ stdout: '3\n', stderr: '' });
  const left = readdirSync(cache, { recursive: true, encoding: 'utf8' });
  expect(left.filter((file) => file.endsWith('.tmp'))).toEqual([]);
  expect(left.filter((file) => file.endsWith('.node'))).toHaveLength(1);
});

it('`ip-adapter build --force` builds it again', async () => {
  const command = [join(root, 'dist/cli/ip-adapter.cjs'), 'build', '--force'];
  const { stdout, stderr } = await promisify(execFile)(process.execPath, command, { cwd: root, env });
  expect(stdout).toMatch(/^Built .*ip_adapter\.node\n$/);
  expect(stderr).toMatch(/0\/\d+/);
});
