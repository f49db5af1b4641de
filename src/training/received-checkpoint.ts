/**
 * @file The checkpoint that a run resumes from, on every host. Rank 0 chooses it. A host that does not see it, because its
 * output folder is not shared with rank 0's, receives a copy for as long as the run is prepared.
 */
import {
  closeSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { checksumsFile } from '../base/checksums.js';
import { CheckpointError, isSystemError } from '../base/errors.js';
import { makeFolder } from '../base/make-folder.js';
import type { ProcessGroup } from '../distributed/process-group.js';
import { describeMember, type Member } from '../distributed/process-group-error.js';
import { tensor } from '../torch/index.js';
import { verifyCheckpoint } from './checkpoints/checkpoint.js';

/** Bytes that are sent at a time. */
const CHUNK = 2 ** 26;

export interface ReadableCheckpoint extends Disposable {
  /** The folder where this process reads it. Disposal deletes a copy. */
  readonly path: string;
}

/**
 * Makes a checkpoint readable for every process.
 * @param path the folder, as rank 0 names it
 * @param outputDir this host's, for a copy
 * @throws CheckpointError where a copy cannot be written
 */
export async function readableCheckpoint(
  path: string,
  group: ProcessGroup | undefined,
  outputDir: string,
  onMessage: (text: string) => void,
): Promise<ReadableCheckpoint> {
  if (group === undefined) return { path, [Symbol.dispose]: () => {} };
  const [wanted] = await group.gatherJson(checksumsOf(path));
  const sees = (folder: string): boolean => checksumsOf(folder) === wanted;
  const copy = resolve(outputDir, `.received-${group.rank}`);
  let readable = sees(path) ? path : undefined;
  // First one process of each host writes a copy; then those that do not see it either.
  for (const isWriting of [group.localRank === 0, true]) {
    const lacking = (await group.gatherJson(readable === undefined)).flatMap((lacks, rank) =>
      lacks ? [rank] : [],
    );
    if (lacking.length === 0) break;
    const names = lacking.map((rank) => describeMember(rank, group.members[rank] as Member));
    onMessage(`${path} is not there for ${names.join(', ')}: rank 0 sends it`);
    const into = isWriting && readable === undefined ? copy : undefined;
    await send(group, path, into);
    const copies = await group.gatherJson(into ?? null);
    readable ??= copies.find((folder) => folder !== null && sees(folder)) ?? undefined;
  }
  return { path: readable as string, [Symbol.dispose]: () => rmSync(copy, { recursive: true, force: true }) };
}

/** Returns the checksums of a checkpoint's files; null where they cannot be read. */
function checksumsOf(folder: string): string | null {
  try {
    return readFileSync(join(folder, checksumsFile), 'utf8');
  } catch (error) {
    if (isSystemError(error)) return null;
    throw error;
  }
}

/** Sends the files of a folder of rank 0 to all. @param into where this process writes them; undefined: nowhere */
async function send(group: ProcessGroup, folder: string, into: string | undefined): Promise<void> {
  const [files = []] = await group.gatherJson(group.isMain ? filesOf(folder) : []);
  if (into !== undefined) {
    rmSync(into, { recursive: true, force: true });
    makeFolder(into);
  }
  for (const { name, size } of files) {
    const from = group.isMain ? openSync(join(folder, name), 'r') : undefined;
    const to = into === undefined ? undefined : openSync(join(into, basename(name)), 'wx');
    for (let start = 0; start < size; start += CHUNK) {
      const bytes = new Uint8Array(Math.min(CHUNK, size - start));
      if (from !== undefined) readSync(from, bytes, 0, bytes.length, start);
      const chunk = tensor(bytes, [bytes.length]);
      await group.broadcast(chunk);
      if (to !== undefined) write(to, chunk.toBytes(), join(into as string, name));
      chunk.dispose();
    }
    for (const file of [from, to]) if (file !== undefined) closeSync(file);
  }
  if (into !== undefined) verifyCheckpoint(into);
}

function filesOf(folder: string): { name: string; size: number }[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map(({ name }) => ({ name, size: statSync(join(folder, name)).size }));
}

function write(file: number, bytes: Uint8Array, path: string): void {
  try {
    writeFileSync(file, bytes);
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw new CheckpointError(
      `The checkpoint that rank 0 sends could not be written to ${path}: ${cause.message}. Free space there, or give all hosts an --output-dir that they share`,
      { cause },
    );
  }
}
