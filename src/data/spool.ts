/**
 * @file Saves a tar from a pipe to a file. A pipe can be read only once and in order, but training shuffles the rows, reads
 * them in every epoch, and resumes after an interruption.
 */
import { closeSync, openSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { addAbortSignal, type Readable } from 'node:stream';
import { DatasetError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import { Throttle } from '../base/throttle.js';

const NAME = 'dataset.tar';

/**
 * Writes a stream to `folder/dataset.tar`, one chunk at a time. The file is complete or absent.
 * @returns the path of the file
 * @throws DatasetError where the stream is empty or compressed; the signal's reason when it is aborted
 */
export async function spool(
  input: Readable,
  folder: string,
  { signal, onMessage }: { signal?: AbortSignal | undefined; onMessage?: (message: string) => void } = {},
): Promise<string> {
  const file = join(folder, NAME);
  const partial = `${file}.partial`;
  makeFolder(folder);
  onMessage?.(`Saving standard input to ${file}: training shuffles the rows and reads them in every epoch`);
  if (signal !== undefined) addAbortSignal(signal, input);
  const descriptor = openSync(partial, 'w');
  let bytes = 0;
  const throttle = new Throttle();
  try {
    for await (const chunk of input as AsyncIterable<Buffer>) {
      if (bytes === 0 && chunk[0] === 0x1f && chunk[1] === 0x8b)
        throw new DatasetError('Expected a tar on standard input but it is gzip; pipe it through gunzip.');
      for (let done = 0; done < chunk.length; ) done += writeSync(descriptor, chunk, done);
      bytes += chunk.length;
      if (throttle.isDue()) onMessage?.(`Standard input: ${gigabytes(bytes)} so far`);
    }
    if (bytes === 0) throw new DatasetError('Expected a tar on standard input but received nothing.');
    renameSync(partial, file);
  } catch (error) {
    rmSync(partial, { force: true });
    signal?.throwIfAborted();
    throw error;
  } finally {
    closeSync(descriptor);
  }
  onMessage?.(`Standard input: ${gigabytes(bytes)} in total; use --dataset ${file} from now on`);
  return file;
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(2)} GB`;
}
