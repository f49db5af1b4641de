/**
 * @file Streams the new lines of a run's `metrics.jsonl` as server-sent events. A client pulls: the next piece is read when the last
 * one is written, so a client that reads slowly costs one piece of memory, and one that never reads is dropped.
 *
 *     event: lines    data: whole lines of metrics.jsonl    id: the position after them
 *     event: reset    the file was replaced by that of a resumed run; read the curves again
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import { readLines } from './metrics.js';

const MAX_STREAMS = 32;
const POLL_MS = 250;
const HEARTBEAT_MS = 10_000;
/** A client that has taken nothing for so long is gone, or an attack. */
const STALL_MS = 20_000;

export class EventStreams {
  #open = 0;
  readonly #stallMs: number;

  constructor(stallMs = STALL_MS) {
    this.#stallMs = stallMs;
  }

  get open(): number {
    return this.#open;
  }

  /** @returns the stream, or an answer with status 503 where there are too many */
  follow(context: Context, file: string, from: { position: number; inode: number | undefined }): Response {
    if (this.#open >= MAX_STREAMS) return tooMany();
    this.#open++;
    return streamSSE(context, async (stream) => {
      let { position, inode } = from;
      let beat = performance.now();
      const write = async (message: { event: string; data: string; id?: string }): Promise<void> => {
        const stall = new AbortController();
        try {
          await Promise.race([
            stream.writeSSE(message),
            sleep(this.#stallMs, undefined, { signal: stall.signal }).then(() => {
              stream.abort();
              // hono cannot end a response whose client reads nothing; the connection can.
              (context.env as { outgoing?: { destroy(): void } }).outgoing?.destroy();
            }),
          ]);
        } finally {
          stall.abort();
        }
        beat = performance.now();
      };
      try {
        await write({ event: 'open', data: '' });
        while (!stream.aborted) {
          const lines = await readLines(file, position, inode);
          if (lines?.isReplaced) {
            await write({ event: 'reset', data: '' });
            return;
          }
          if (lines !== undefined && lines.position > position) {
            ({ position, inode } = lines);
            if (lines.text !== '')
              await write({ event: 'lines', data: lines.text.trimEnd(), id: `${inode}-${position}` });
            continue;
          }
          if (performance.now() - beat > HEARTBEAT_MS) await write({ event: 'beat', data: '' });
          await sleep(POLL_MS);
        }
      } catch (error) {
        // The stall's timer was ended by its own signal.
        if ((error as Error).name !== 'AbortError') throw error;
      } finally {
        this.#open--;
      }
    });
  }
}

function tooMany(): Response {
  return Response.json(
    { error: `${MAX_STREAMS} event streams are open already; close a page` },
    { status: 503, headers: { 'Retry-After': '10' } },
  );
}
