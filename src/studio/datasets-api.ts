/** @file The routes of the dataset browser and of dataset checks, below /api/datasets. */
import { resolve } from 'node:path';
import { Hono } from 'hono';
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { isRemote } from '../data/remote-names.js';
import type { DatasetChecks } from './dataset-checks.js';
import { type CheckedRows, type RowsQuery, rowFilters } from './dataset-messages.js';
import type { DatasetProcess } from './dataset-process.js';
import { findDatasets } from './find-datasets.js';
import { folderFault, type StudioFolders } from './folders.js';
import { checkOfNewRun, type GivenRun } from './new-run.js';

export interface DatasetsParts {
  datasets: DatasetProcess;
  checks: DatasetChecks;
  folders: StudioFolders;
  /** GB of remote shards on disk; undefined: as the options of training say. */
  shardCacheSize: number | undefined;
}

const index = z.coerce
  .number()
  .int()
  .min(0)
  .max(2 ** 32);
const dataset = {
  path: z.string().min(1).max(4096),
  masks: z.stringbool().default(false),
  groupBy: z.string().min(1).max(100).optional(),
};
const rowsQuery = z.object({
  ...dataset,
  filter: z.enum(rowFilters).default('all'),
  text: z.string().max(200).default(''),
  from: index.default(0),
  count: z.coerce.number().int().min(1).max(200).default(60),
  check: z.string().max(100).optional(),
});
const imageQuery = z.object({
  ...dataset,
  index,
  which: z.enum(['image', 'reference', 'mask']).default('image'),
  width: z.coerce.number().int().min(16).max(2048).default(256),
});

export function datasetsApi({ datasets, checks, folders, shardCacheSize }: DatasetsParts) {
  const roots = [...folders.datasets, folders.runs];
  const checked = <S extends z.ZodType<{ path: string }>>(schema: S, query: unknown): z.output<S> => {
    const { data, error } = schema.safeParse(query);
    if (error !== undefined)
      throw new ConfigError(
        error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '),
      );
    const fault = isRemote(data.path) ? undefined : folderFault('path', data.path, roots, '--datasets');
    if (fault !== undefined) throw new ConfigError(fault);
    return data;
  };
  const noCheck = { error: 'There is no such check' };
  return new Hono()
    .get('/checks', (context) =>
      context.json(checks.list.map(({ samples: _, summary: __, ...brief }) => brief)),
    )
    .post('/checks', async (context) => {
      const given = checkOfNewRun((await context.req.json()) as GivenRun, folders);
      if ('errors' in given) return context.json({ errors: given.errors }, 422);
      return context.json(
        { id: checks.start({ options: { shardCacheSize, ...given.options }, roots }) },
        201,
      );
    })
    .get('/checks/:id', (context) => {
      const check = checks.get(context.req.param('id'));
      return check === undefined ? context.json(noCheck, 404) : context.json(check);
    })
    .delete('/checks/:id', (context) => {
      const id = context.req.param('id');
      if (checks.get(id) === undefined) return context.json(noCheck, 404);
      if (!checks.cancel(id)) return context.json({ error: 'The check has ended already' }, 409);
      return context.json({ id });
    })
    .get('/', async (context) => context.json(await findDatasets(roots)))
    .get('/opening', (context) => {
      const { path } = checked(z.object({ path: dataset.path }), context.req.query());
      return context.json({ note: datasets.noteOf(path) ?? null });
    })
    .get('/rows', async (context) => {
      const { check, ...query } = checked(rowsQuery, context.req.query());
      const among = rowsOfCheck(checks, query, check);
      return context.json(await datasets.rows(query, among, context.req.raw.signal));
    })
    .get('/image', async (context) => {
      const webp = await datasets.image(checked(imageQuery, context.req.query()), context.req.raw.signal);
      return context.body(new Uint8Array(webp), 200, { 'Content-Type': 'image/webp' });
    });
}

/**
 * Returns the rows that a filter is of, where that is what a check has found. @param id of the check
 * @throws ConfigError where a filter needs something that is not asked for
 */
function rowsOfCheck(
  checks: DatasetChecks,
  { filter, path, masks, groupBy }: RowsQuery,
  id: string | undefined,
): CheckedRows | undefined {
  if (filter === 'no mask' && !masks) throw new ConfigError(`filter is ${filter}, which needs masks=true`);
  if ((filter === 'grouped' || filter === 'alone in its group') && groupBy === undefined)
    throw new ConfigError(`filter is ${filter}, which needs groupBy`);
  if (filter !== 'cannot be read' && filter !== 'same image') return undefined;
  const absolute = isRemote(path) ? path : resolve(path);
  const found = id === undefined ? undefined : checks.rowsOf(id, absolute, masks);
  if (id === undefined || found === undefined)
    throw new ConfigError(`filter is ${filter}, which needs check, that of this dataset when it is done`);
  return { id, rows: filter === 'same image' ? found.sameImage : found.unreadable };
}
