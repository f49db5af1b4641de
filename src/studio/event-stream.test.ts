import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { getRequestListener } from '@hono/node-server';
import { Hono } from 'hono';
import { afterEach, expect, it, vi } from 'vitest';
import { EventStreams } from './event-stream.js';

const folder = mkdtempSync(join(tmpdir(), 'event-stream-'));
const file = join(folder, 'metrics.jsonl');
let server: Server | undefined;
afterEach(() => {
  server?.closeAllConnections();
  server?.close();
  rmSync(folder, { recursive: true, force: true });
});

it('drops a client that never reads, and holds little of the file for it', async () => {
  const line = `${JSON.stringify({ type: 'step', step: 1, text: 'x'.repeat(1000) })}\n`;
  writeFileSync(file, line.repeat(64 * 1024));
  const streams = new EventStreams(500);
  const app = new Hono();
  app.get('/', (context) => streams.follow(context, file, { position: 0, inode: undefined }));
  server = createServer(getRequestListener(app.fetch)).listen(0, '127.0.0.1');
  await new Promise((done) => server?.once('listening', done));
  const before = process.memoryUsage.rss();
  const socket = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const closed = new Promise((done) => socket.once('close', done));
  socket.on('error', () => {});
  socket.pause();
  socket.write('GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
  await vi.waitFor(() => expect(streams.open).toBe(1), { timeout: 5000 });
  // Its place is free again, and the connection is closed from the server's side.
  await vi.waitFor(() => expect(streams.open).toBe(0), { timeout: 10_000 });
  expect(process.memoryUsage.rss() - before).toBeLessThan(48 * 2 ** 20);
  socket.resume();
  await closed;
});
