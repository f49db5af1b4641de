/** @file The datasets in the studio's folders. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { isImage } from '../data/image-endings.js';

const MAX_DEPTH = 3;
const MAX_FOLDERS = 2000;
/** Folders of runs, and others without datasets. */
const skipped = /^(\..*|checkpoint-\d+|cache|logs|validation|control|node_modules)$/;

/** Returns files and folders that `--dataset` would take. What is in a folder of images or shards is one dataset. */
export async function findDatasets(roots: readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  let visited = 0;
  const visit = async (folder: string, depth: number): Promise<void> => {
    if (++visited > MAX_FOLDERS) return;
    const entries = await readdir(folder, { withFileTypes: true }).catch(() => []);
    const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
    // A run's folder has JSON files of other kinds.
    if (files.includes('metrics.jsonl') || files.includes('config.yaml')) return;
    const lists = files.filter(
      (name) => /\.(jsonl|ndjson)$/i.test(name) || /(^|[-_.])data(set)?\.json$/i.test(name),
    );
    for (const name of lists) found.add(join(folder, name));
    const areShards = files.some((name) => /\.(tar|parquet)$/i.test(name));
    if (lists.length === 0 && (areShards || files.some((name) => isImage(name)))) found.add(folder);
    if (depth === MAX_DEPTH || areShards) return;
    for (const entry of entries)
      if (entry.isDirectory() && !skipped.test(entry.name)) await visit(join(folder, entry.name), depth + 1);
  };
  for (const root of roots) await visit(root, 0);
  return [...found].sort();
}
