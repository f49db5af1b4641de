/** @file The REST API of the studio. Its type is that of the page's client (`hono/client`). */
import { open, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { type Context, Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { HTTPException } from 'hono/http-exception';
import { adapterFile } from '../adapters/adapter-path.js';
import { isSystemError, UserError } from '../base/errors.js';
import { requestSchema, writeRequest } from '../base/steering.js';
import { isWithin } from '../base/within-folders.js';
import { type AdapterForm, adapterForms } from '../options/adapter-forms.js';
import { runStateOf } from '../training/checkpoints/run-state.js';
import { type AccessRules, checkHost, checkToken } from './access.js';
import type { AdapterExports } from './adapter-export.js';
import { type DatasetsParts, datasetsApi } from './datasets-api.js';
import type { DryRuns } from './dry-run.js';
import { EventStreams } from './event-stream.js';
import { readLines } from './metrics.js';
import { checkNewRun, checkRunName, type GivenRun } from './new-run.js';
import { type PlaygroundParts, playgroundApi } from './playground-api.js';
import type { TrainingQueue } from './queue.js';
import { checkpointsOf, recordedOptions } from './runs.js';
import { streamOf, thumbnailOf, widthOf } from './send-image.js';
import { encodeSeries } from './series.js';
import { sheetsOf } from './sheets.js';
import { presetFields, trainFields } from './train-fields.js';

const MAX_BODY = 2 ** 20;
/** Of a log, the end. */
const MAX_LOG = 64 * 1024;

export interface StudioParts extends PlaygroundParts, DatasetsParts {
  queue: TrainingQueue;
  dryRuns: DryRuns;
  adapterExports: AdapterExports;
  rules: AccessRules;
  version: string;
  streams?: EventStreams;
}

export type StudioApi = ReturnType<typeof createApi>;

const securityHeaders = {
  'Content-Security-Policy':
    "default-src 'self'; img-src 'self' blob: data:; style-src 'self' 'unsafe-inline'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'Cross-Origin-Resource-Policy': 'same-origin',
  'Cross-Origin-Opener-Policy': 'same-origin',
  'Referrer-Policy': 'no-referrer',
  'X-Content-Type-Options': 'nosniff',
};

/** Returns the routes below /api. */
function createApi(parts: StudioParts) {
  const { runs, queue, dryRuns, adapterExports, folders, rules, version } = parts;
  const { streams = new EventStreams() } = parts;
  const runOf = async (context: Context): Promise<{ id: string; folder: string }> => {
    const id = context.req.param('id') ?? '';
    const folder = await runs.pathOf(id);
    if (folder === undefined) throw new HTTPException(404, { message: 'There is no such run' });
    return { id, folder };
  };
  /** A file of a run, which must not be a link out of it. */
  const inRun = async (folder: string, ...names: string[]): Promise<string> => {
    const file = join(folder, ...names);
    if (!isWithin(file, [folder]) || !(await stat(file).catch(() => undefined))?.isFile())
      throw new HTTPException(404, { message: 'There is no such file' });
    return file;
  };
  const stepParam = (context: Context): string => {
    const step = context.req.param('step') ?? '';
    if (!/^\d{1,12}$/.test(step)) throw new HTTPException(404, { message: 'There is no such step' });
    return step;
  };

  const limit = bodyLimit({
    maxSize: MAX_BODY,
    onError: (context) => context.json({ error: `At most ${MAX_BODY} bytes are taken` }, 413),
  });

  return new Hono()
    .use(checkToken(rules))
    .use((context, next) =>
      context.req.path.endsWith('/playground/uploads') ? next() : limit(context, next),
    )
    .route('/playground', playgroundApi(parts))
    .route('/datasets', datasetsApi(parts))
    .get('/about', (context) => context.json({ version, ...folders }))
    .get('/runs', async (context) => {
      const ids = await runs.ids();
      const list = [];
      for (const id of ids) list.push(await runs.summaryOf(id, queue.statusOf(id)));
      return context.json(list);
    })
    .post('/runs', async (context) => {
      const { name, ...given } = (await context.req.json()) as GivenRun & { name?: unknown };
      const run = checkRunName(name);
      const checked = checkNewRun(run, given, folders);
      if ('errors' in checked) return context.json({ errors: checked.errors }, 422);
      queue.add(run, checked.options);
      runs.forget();
      return context.json({ id: run }, 201);
    })
    .get('/options', (context) => context.json(trainFields()))
    .get('/presets', (context) => context.json(presetFields()))
    .post('/dry-run', async (context) => {
      const { name, ...given } = (await context.req.json()) as GivenRun & { name?: unknown };
      const checked = checkNewRun(checkRunName(name), given, folders);
      if ('errors' in checked) return context.json({ errors: checked.errors }, 422);
      const { isPossible, text } = await dryRuns.try(checked.options, context.req.raw.signal);
      return context.json({ isPossible, text: text.split('\n').map(asShown).join('\n') });
    })
    .get('/runs/:id', async (context) => {
      const { id, folder } = await runOf(context);
      const metrics = await runs.metricsOf(id);
      return context.json({
        summary: await runs.summaryOf(id, queue.statusOf(id)),
        folder,
        options: await recordedOptions(folder),
        checkpoints: await checkpointsOf(folder),
        sheets: await sheetsOf(folder, metrics.sheets),
        events: metrics.events.slice(-200),
      });
    })
    .get('/runs/:id/series', async (context) => {
      const { id } = await runOf(context);
      const metrics = await runs.metricsOf(id);
      const { position, inode } = metrics;
      const bytes = encodeSeries(metrics.series, { position: `${inode ?? 0}-${position}` });
      return context.body(bytes as Uint8Array<ArrayBuffer>, 200, {
        'Content-Type': 'application/octet-stream',
        'Cache-Control': 'no-store',
      });
    })
    .get('/runs/:id/events', async (context) => {
      const { folder } = await runOf(context);
      const from = context.req.header('last-event-id') ?? context.req.query('from') ?? '';
      const [, inode, position = '0'] = /^(\d{1,19})-(\d{1,15})$/.exec(from) ?? [];
      return streams.follow(context, join(folder, 'metrics.jsonl'), {
        position: Number(position),
        inode: inode === undefined || inode === '0' ? undefined : Number(inode),
      });
    })
    .post('/runs/:id/requests', async (context) => {
      const { folder } = await runOf(context);
      const { data: request, error } = requestSchema.safeParse(await context.req.json());
      if (error !== undefined)
        return context.json({ error: 'Expected sample, save, stop, or extend with steps from 1' }, 422);
      if (!runStateOf(folder).isRunning) return context.json({ error: 'The run is not going on' }, 409);
      return context.json({ id: writeRequest(folder, request) }, 202);
    })
    .post('/runs/:id/resume', async (context) => {
      const { id, folder } = await runOf(context);
      if (runStateOf(folder).isRunning) return context.json({ error: 'The run is going on already' }, 409);
      queue.add(id, undefined);
      return context.json({ id }, 202);
    })
    .delete('/runs/:id/queue', async (context) => {
      const { id } = await runOf(context);
      if (!queue.remove(id)) return context.json({ error: 'The run does not wait in the queue' }, 409);
      return context.json({ id });
    })
    .get('/runs/:id/log', async (context) => {
      const { folder } = await runOf(context);
      const file = await inRun(folder, 'train.log');
      const { size } = await stat(file);
      const lines = await readLines(file, Math.max(0, size - MAX_LOG));
      const text = (lines?.text ?? '').split('\n').map(asShown).join('\n');
      return context.json({ text });
    })
    .get('/runs/:id/samples/:step', async (context) => {
      const { folder } = await runOf(context);
      const file = await inRun(folder, 'validation', `step-${stepParam(context)}.png`);
      const width = widthOf(context.req.query('width'));
      if (width === undefined) return context.body(streamOf(file), 200, { 'Content-Type': 'image/png' });
      const small = new Uint8Array(await thumbnailOf(file, width));
      return context.body(small, 200, { 'Content-Type': 'image/webp' });
    })
    .get('/runs/:id/checkpoints/:step/adapter', async (context) => {
      const { id, folder } = await runOf(context);
      const step = stepParam(context);
      const file = await inRun(folder, `checkpoint-${step}`, adapterFile);
      const form = (context.req.query('form') ?? adapterForms[0]) as AdapterForm;
      if (!adapterForms.includes(form))
        return context.json({ error: `form must be one of ${adapterForms.join(', ')}` }, 422);
      const handle =
        form === adapterForms[0]
          ? await open(file)
          : await adapterExports.export(file, form, context.req.raw.signal);
      const name = `${id.replace(/[^\w.-]+/g, '-')}-${step}.${form}`;
      return context.body(streamOf(handle), 200, {
        'Content-Type': 'application/octet-stream',
        'Content-Length': String((await handle.stat()).size),
        'Content-Disposition': `attachment; filename="${name}"`,
      });
    });
}

/** Returns what a terminal shows of a line: a progress bar returns to its start and overwrites it. */
function asShown(line: string): string {
  return line.slice(line.lastIndexOf('\r', line.length - 2) + 1);
}

/** Returns the whole application: the API below `basePath`/api, and the page, which `shell` serves. */
export function createApp(
  parts: StudioParts,
  basePath: string,
  shell: (path: string) => Promise<Response>,
): Hono {
  const app = new Hono();
  app.use(async (context, next) => {
    await next();
    for (const [name, value] of Object.entries(securityHeaders)) context.res.headers.set(name, value);
  });
  app.use(checkHost(parts.rules));
  app.onError((error, context) => {
    if (error instanceof HTTPException) return context.json({ error: error.message }, error.status);
    if (error instanceof SyntaxError) return context.json({ error: 'The body is not JSON' }, 400);
    if (error instanceof UserError) return context.json({ error: error.message }, 422);
    if (isSystemError(error)) return context.json({ error: `The system refused: ${error.code}` }, 500);
    process.stderr.write(`${error.stack}\n`);
    return context.json({ error: 'A fault of the studio; its terminal says more' }, 500);
  });
  const base = basePath.replace(/\/$/, '');
  app.route(`${base}/api`, createApi(parts));
  app.all(`${base}/api/*`, (context) => context.json({ error: 'There is no such address' }, 404));
  app.get(`${base}/*`, (context) => shell(context.req.path.slice(base.length)));
  if (base !== '') app.get(base, (context) => context.redirect(`${base}/`));
  return app;
}
