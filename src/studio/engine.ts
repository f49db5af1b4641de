/**
 * @file The playground's engine: a process of its own, since the studio's has no tensors and must answer while a step is
 * computed. It takes one job after another, keeps the models of the last one, and ends with the studio.
 */
import { rename } from 'node:fs/promises';
import process from 'node:process';
import { UserError } from '../base/errors.js';
import type { RunEvent } from '../base/run-context.js';
import { fingerprintOfNamed } from '../diffusion/named-fingerprint.js';
import { IPAdapterPipeline } from '../generation/pipeline.js';
import { contactSheet, encodePng } from '../images/png.js';
import type { PipelineOptions } from '../options/generate-types.js';
import type { FromEngine, ToEngine } from './engine-messages.js';

let loaded: { models: string; adapters: string; pipeline: IPAdapterPipeline } | undefined;
let running: AbortController | undefined;

const tell = (message: FromEngine): void => void process.send?.(message);

/** Returns the pipeline of these models; the last one's are released where they are others. */
async function pipelineOf(
  { adapters = [], ...models }: PipelineOptions,
  signal: AbortSignal,
): Promise<IPAdapterPipeline> {
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'message') tell(event);
  };
  if (loaded?.models !== keyOf(models)) {
    tell({ type: 'loading', what: 'models' });
    loaded?.pipeline[Symbol.dispose]();
    loaded = undefined;
    const pipeline = await IPAdapterPipeline.load({ ...models, adapters }, { signal, onEvent });
    // Not before, since names on the Hub have no files until then.
    loaded = { models: keyOf(models), adapters: keyOf(adapters), pipeline };
  } else if (loaded.adapters !== keyOf(adapters)) {
    tell({ type: 'loading', what: 'adapters' });
    await loaded.pipeline.loadAdapters(adapters, { signal, onEvent });
    loaded.adapters = keyOf(adapters);
  }
  return loaded.pipeline;
}

/** Returns what tells models from others, also from those that were in the same files before. */
function keyOf(models: unknown): string {
  return JSON.stringify(models, (_, value) =>
    typeof value === 'string' ? `${value} ${fingerprintOfNamed(value)}` : value,
  );
}

async function generate({ models, prompt, files }: Extract<ToEngine, { type: 'generate' }>): Promise<void> {
  running = new AbortController();
  const { signal } = running;
  let previews = Promise.resolve();
  const onEvent = (event: RunEvent): void => {
    if (event.type === 'progress') tell({ type: 'progress', done: event.done, total: event.total });
    else if (event.type === 'message') tell({ type: 'message', text: event.text });
    else if (event.type === 'preview')
      previews = previews.then(async () =>
        tell({ type: 'preview', png: await encodePng(contactSheet(event.images)) }),
      );
  };
  try {
    const pipeline = await pipelineOf(models, signal);
    let written = 0;
    for await (const images of pipeline.generateBatches(prompt, { signal, onEvent }))
      for (const image of images) {
        const file = files[written++] as string;
        // The history lists whole files only.
        await image.save(`${file}.partial.png`);
        await rename(`${file}.partial.png`, file);
        await previews;
        tell({ type: 'image', file });
      }
    tell({ type: 'done' });
  } catch (error) {
    await previews;
    if (!(error instanceof UserError) && !signal.aborted) process.stderr.write(`${(error as Error).stack}\n`);
    tell({ type: 'failed', error: (error as Error).message, isCancelled: signal.aborted });
  } finally {
    running = undefined;
  }
}

process.on('message', (message: ToEngine) => {
  if (message.type === 'cancel') running?.abort();
  else void generate(message);
});
process.on('disconnect', () => process.exit());
