/** @file The routes of the playground, below /api/playground. */
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { HTTPException } from 'hono/http-exception';
import type { StudioFolders } from './folders.js';
import type { Gallery } from './gallery.js';
import type { Playground } from './playground.js';
import { choicesOf } from './playground-choices.js';
import { readPlaygroundSettings } from './playground-restore.js';
import { checkPlayground } from './playground-settings.js';
import type { Runs } from './runs.js';
import { streamOf, thumbnailOf, widthOf } from './send-image.js';

/** A PNG of 4096 × 4096 pixels that does not compress. */
const MAX_UPLOAD = 64 * 2 ** 20;
/** Each is in memory as a whole. */
const MAX_UPLOADS_AT_ONCE = 4;

export interface PlaygroundParts {
  playground: Playground;
  gallery: Gallery;
  runs: Runs;
  folders: StudioFolders;
}

export function playgroundApi({ playground, gallery, runs, folders }: PlaygroundParts) {
  let uploading = 0;
  const uploadLimit = bodyLimit({
    maxSize: MAX_UPLOAD,
    onError: (context) => context.json({ error: `An image has at most ${MAX_UPLOAD} bytes` }, 413),
  });
  const fileOf = (name: string): string => {
    const file = gallery.fileOf(name);
    if (file === undefined) throw new HTTPException(404, { message: 'There is no such image' });
    return file;
  };
  return new Hono()
    .get('/choices', async (context) => context.json(await choicesOf(runs, folders)))
    .get('/jobs', (context) => context.json(playground.jobs))
    .post('/jobs', async (context) => {
      const checked = checkPlayground(await context.req.json(), gallery, folders);
      if ('errors' in checked) return context.json({ errors: checked.errors }, 422);
      return context.json({ id: playground.add(checked.models, checked.prompt) }, 201);
    })
    .delete('/jobs/:id', (context) => {
      if (!playground.cancel(context.req.param('id')))
        return context.json({ error: 'The job neither waits nor runs' }, 409);
      return context.json({ id: context.req.param('id') });
    })
    .get('/jobs/:id/preview', (context) => {
      const png = playground.previewOf(context.req.param('id'));
      if (png === undefined) return context.json({ error: 'There is no preview' }, 404);
      return context.body(new Uint8Array(png), 200, {
        'Content-Type': 'image/png',
        'Cache-Control': 'no-store',
      });
    })
    .get('/images', async (context) => context.json(await gallery.list()))
    .get('/images/:name', async (context) => {
      const file = fileOf(context.req.param('name'));
      const width = widthOf(context.req.query('width'));
      // Names are new for each content.
      const headers = { 'Cache-Control': 'private, max-age=31536000, immutable' };
      if (width !== undefined)
        return context.body(new Uint8Array(await thumbnailOf(file, width)), 200, {
          ...headers,
          'Content-Type': 'image/webp',
        });
      const type = `image/${(file.split('.').at(-1) as string).replace('heif', 'avif')}`;
      return context.body(streamOf(file), 200, { ...headers, 'Content-Type': type });
    })
    .get('/images/:name/settings', async (context) =>
      context.json(await readPlaygroundSettings(fileOf(context.req.param('name')), gallery)),
    )
    .delete('/images/:name', (context) => {
      if (!gallery.remove(context.req.param('name')))
        return context.json({ error: 'There is no such generated image' }, 404);
      return context.json({ name: context.req.param('name') });
    })
    .post('/uploads', uploadLimit, async (context) => {
      if (uploading >= MAX_UPLOADS_AT_ONCE)
        return context.json({ error: 'Other images are being uploaded; try again' }, 503);
      uploading++;
      try {
        return context.json(await gallery.upload(new Uint8Array(await context.req.arrayBuffer())), 201);
      } finally {
        uploading--;
      }
    });
}
