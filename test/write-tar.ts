/** @file Writes tar files for tests, with an independent library. */
import { pack } from 'tar-stream';

/** Returns a tar of regular files, in the given order. */
export async function tarOf(
  members: readonly (readonly [name: string, content: string | Uint8Array])[],
): Promise<Buffer> {
  const tar = pack();
  for (const [name, content] of members) tar.entry({ name }, Buffer.from(content));
  tar.finalize();
  const chunks: Buffer[] = [];
  for await (const chunk of tar as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}
