import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, it, vi } from 'vitest';
import { streamOf } from './send-image.js';

const folder = mkdtempSync(join(tmpdir(), 'send-image-'));
const file = join(folder, 'file');
writeFileSync(file, Buffer.alloc(2 ** 20, 7));
afterAll(() => rmSync(folder, { recursive: true }));

it('sends a file as it is taken, and closes it', async () => {
  const handle = await open(file);
  let bytes = 0;
  for await (const piece of streamOf(handle) as unknown as AsyncIterable<Uint8Array>) bytes += piece.length;
  expect(bytes).toBe(2 ** 20);
  await vi.waitFor(() => expect(handle.fd).toBe(-1));
});

it('closes the file of a client that takes nothing, or goes away', async () => {
  const handle = await open(file);
  const reader = streamOf(handle, 50).getReader();
  await reader.read();
  await vi.waitFor(() => expect(handle.fd).toBe(-1));
  await expect(
    (async () => {
      while (!(await reader.read()).done);
    })(),
  ).rejects.toThrow('takes nothing');
  const other = await open(file);
  await streamOf(other).cancel();
  await vi.waitFor(() => expect(other.fd).toBe(-1));
});
