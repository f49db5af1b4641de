/**
 * @file The list of training rows: a JSON array of `{"image_file": "1.png", "text": "A dog"}` beside a folder of
 * pictures, as the original's `MyDataset` reads it. The whole list is checked before anything else starts.
 */
import { readFileSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import { DatasetError } from '../errors.js';
import { fileSource, type ImageSource } from './image-source.js';
import { jsonErrorPosition } from './json-position.js';

/** One training example. */
export interface DatasetRow {
  /** The picture that is trained on. */
  readonly image: ImageSource;
  /** The picture that the adapter sees; the same as `image` unless the row says otherwise. */
  readonly promptImage: ImageSource;
  /** One or more, each of which may be empty; which one a row has in an epoch is drawn by (seed, epoch, row). */
  readonly captions: readonly string[];
}

/** Rows by their index. An array is such; a large dataset makes a row when it is asked for. */
export interface Rows extends Iterable<DatasetRow> {
  readonly length: number;
  at(index: number): DatasetRow | undefined;
}

/** How many wrong rows a message shows. */
const SHOWN_ROWS = 5;

/**
 * Reads and checks a dataset file. Keys besides `image_file` and `text` are allowed and ignored.
 * @param file the JSON list
 * @param imageRoot the folder that `image_file` is relative to (an absolute `image_file` stands for itself)
 * @throws DatasetError naming the file, and the line or the rows that are wrong
 */
export function readDataset(file: string, imageRoot: string): DatasetRow[] {
  const rows = parse(file);
  if (!Array.isArray(rows)) {
    throw new DatasetError(
      `Expected an array of rows like {"image_file": "1.png", "text": "A dog"} in ${file} but received ${show(rows)}.`,
    );
  }
  if (rows.length === 0)
    throw new DatasetError(`Expected at least one row in ${file} but received an empty array.`);

  const wrong: string[] = [];
  let wrongCount = 0;
  rows.forEach((row: unknown, index) => {
    const problem = problemOf(row);
    if (problem === null) return;
    wrongCount++;
    if (wrong.length < SHOWN_ROWS) wrong.push(`  row ${index}: ${problem}: ${show(row)}`);
  });
  if (wrongCount > 0) {
    const more = wrongCount > wrong.length ? `\n  and ${wrongCount - wrong.length} more` : '';
    throw new DatasetError(
      `Expected "image_file" (a path) and "text" (a string) in every row of ${file}, ` +
        `but ${wrongCount} of ${rows.length} rows are wrong (counted from 0):\n${wrong.join('\n')}${more}`,
    );
  }
  if (!statSync(resolve(imageRoot), { throwIfNoEntry: false })?.isDirectory()) {
    throw new DatasetError(`Expected a folder of pictures at ${resolve(imageRoot)} but there is none.`);
  }
  return (rows as { image_file: string; text: string }[]).map(({ image_file, text }) => {
    const image = fileSource(resolve(imageRoot, image_file));
    return { image, promptImage: image, captions: [text] };
  });
}

function parse(file: string): unknown {
  let text: string;
  try {
    // Fatal: a file in another encoding would otherwise train on captions full of replacement signs.
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(file));
  } catch (error) {
    throw new DatasetError(`Expected a dataset in UTF-8 at ${file} but ${(error as Error).message}.`, {
      cause: error,
    });
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    const { line, column, excerpt } = jsonErrorPosition(text);
    throw new DatasetError(`Expected JSON in ${file} but it breaks at ${line}:${column}, near: ${excerpt}`, {
      cause: error,
    });
  }
}

/** What is wrong with a row, or null. */
function problemOf(row: unknown): string | null {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return 'not an object';
  const { image_file, text } = row as Record<string, unknown>;
  if (image_file === undefined) return '"image_file" is missing';
  if (typeof image_file !== 'string' || image_file === '') return '"image_file" is not a path';
  if (text === undefined) return '"text" is missing';
  if (typeof text !== 'string') return '"text" is not a string';
  return null;
}

/** A value as JSON, cut to what fits on a line. */
function show(value: unknown): string {
  const json = JSON.stringify(value);
  return json.length > 120 ? `${json.slice(0, 120)}…` : json;
}
