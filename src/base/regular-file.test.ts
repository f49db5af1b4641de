import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it } from 'vitest';
import { regularFile } from './regular-file.js';

const dir = mkdtempSync(join(tmpdir(), 'ip-adapter-regular-'));
afterAll(() => rmSync(dir, { recursive: true }));

it('takes a file, also by a link, and names what is none', async () => {
  const at = (name: string): string => join(dir, name);
  writeFileSync(at('file'), '');
  symlinkSync(at('file'), at('link'));
  expect(regularFile(at('link'))).toBe(at('link'));
  execFileSync('mkfifo', [at('pipe')]);
  symlinkSync(at('pipe'), at('pipe link'));
  const server = createServer().listen(at('socket'));
  await new Promise((resolve) => server.once('listening', resolve));
  expect(() => regularFile(dir)).toThrow(/^it is a folder, not a file$/);
  expect(() => regularFile(at('pipe'))).toThrow(/a named pipe/);
  expect(() => regularFile(at('pipe link'))).toThrow(/a named pipe/);
  expect(() => regularFile(at('socket'))).toThrow(/a socket/);
  expect(() => regularFile('/dev/zero')).toThrow(/a device/);
  expect(() => regularFile(at('absent'))).toThrow(/ENOENT/);
  server.close();
});
