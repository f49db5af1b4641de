/** @file The routes of the dataset browser, below /api/datasets. */
import { Hono } from 'hono';
import { z } from 'zod';
import { ConfigError } from '../base/errors.js';
import { rowFilters } from './dataset-messages.js';
import type { DatasetProcess } from './dataset-process.js';
import { findDatasets } from './find-datasets.js';
import { folderFault, type StudioFolders } from './folders.js';

export interface DatasetsParts {
  datasets: DatasetProcess;
  folders: StudioFolders;
}

const index = z.coerce
  .number()
  .int()
  .min(0)
  .max(2 ** 32);
const rowsQuery = z.object({
  path: z.string().min(1).max(4096),
  filter: z.enum(rowFilters).default('all'),
  text: z.string().max(200).default(''),
  from: index.default(0),
  count: z.coerce.number().int().min(1).max(200).default(60),
});
const imageQuery = z.object({
  path: z.string().min(1).max(4096),
  index,
  which: z.enum(['image', 'reference']).default('image'),
  width: z.coerce.number().int().min(16).max(2048).default(256),
});

export function datasetsApi({ datasets, folders }: DatasetsParts) {
  const roots = [...folders.datasets, folders.runs];
  const checked = <S extends z.ZodType<{ path: string }>>(schema: S, query: unknown): z.output<S> => {
    const { data, error } = schema.safeParse(query);
    if (error !== undefined)
      throw new ConfigError(
        error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; '),
      );
    const fault = folderFault('path', data.path, roots, '--datasets');
    if (fault !== undefined) throw new ConfigError(fault);
    return data;
  };
  return new Hono()
    .get('/', async (context) => context.json(await findDatasets(roots)))
    .get('/rows', async (context) =>
      context.json(await datasets.rows(checked(rowsQuery, context.req.query()))),
    )
    .get('/image', async (context) => {
      const webp = await datasets.image(checked(imageQuery, context.req.query()), roots);
      return context.body(new Uint8Array(webp), 200, { 'Content-Type': 'image/webp' });
    });
}
