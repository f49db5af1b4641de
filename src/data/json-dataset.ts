/**
 * @file Datasets whose rows are JSON: an array of `{"image_file": "1.png", "text": "A dog"}`, as the original's `MyDataset`
 * reads it; JSON Lines, one object per line; and `metadata.jsonl` of Hugging Face's ImageFolder, where the image is
 * `file_name`. Every row is checked when the dataset is opened.
 */
import { createReadStream, readFileSync, statSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { DatasetError, shown } from '../base/errors.js';
import { counted, listed } from '../base/listing.js';
import { regularFile } from '../base/regular-file.js';
import { fileSource } from '../images/image-source.js';
import { captionsOf, utf8 } from './captions.js';
import { type Dataset, ListHash, lazyRows } from './dataset.js';
import { jsonErrorPosition } from './json-position.js';
import { PackedList } from './packed-list.js';
import {
  type Extras,
  groupColumn,
  groupField,
  packExtras,
  type RowFields,
  unpackExtras,
} from './row-fields.js';

/** A JSON value that should be a row, and its place in the file. */
type Entry = [where: string, value: unknown];

/** The stored form of a row: the image, the prompt image or null, its fields if it has any, the captions. */
type Packed = [image: string, prompt: string | null, ...rest: (Extras<string> | string)[]];

/**
 * Opens a JSON array and checks its rows. Unknown keys are ignored.
 * @param imageRoot the folder that paths of images are relative to; default: the folder of the file
 * @throws DatasetError naming the file, and the line or the rows that are wrong
 */
export async function openJson(
  file: string,
  imageRoot = dirname(file),
  fields: RowFields = {},
): Promise<Dataset> {
  const rows = parseArray(file);
  const entries = rows.map((row, index): Entry => [`row ${index}`, row]);
  return collect(file, imageRoot, 'image_file', 'JSON', entries, fields);
}

/**
 * Opens JSON Lines and checks the rows, one line at a time.
 * @param imageKey the key that names the image
 */
export async function openJsonLines(
  file: string,
  imageRoot = dirname(file),
  imageKey: 'image_file' | 'file_name' = 'image_file',
  fields: RowFields = {},
): Promise<Dataset> {
  const kind = imageKey === 'file_name' ? 'ImageFolder' : 'JSON Lines';
  return collect(file, imageRoot, imageKey, kind, parseLines(file), fields);
}

async function collect(
  file: string,
  imageRoot: string,
  imageKey: string,
  kind: string,
  entries: Iterable<Entry> | AsyncIterable<Entry>,
  fields: RowFields,
): Promise<Dataset> {
  const root = resolve(imageRoot);
  const packed = new PackedList<Packed>();
  const hash = new ListHash();
  const wrong: string[] = [];
  let wrongCount = 0;
  for await (const [where, value] of entries) {
    const row = readRow(value, imageKey, fields, root);
    if (typeof row === 'string') {
      wrongCount++;
      if (wrong.length < 5) wrong.push(`${where}: ${row}: ${shown(value)}`);
      continue;
    }
    const [image, prompt, ...rest] = row;
    packed.push(row);
    const fromRoot = (path: string): string => relative(root, resolve(root, path));
    const { extras, captions } = unpackExtras(rest);
    if (extras.mask !== undefined) extras.mask = fromRoot(extras.mask);
    // Without a prompt image, the hash equals that of earlier versions, whose checkpoints contain it.
    hash.add([
      fromRoot(image),
      ...(prompt === null ? [] : [{ prompt: fromRoot(prompt) }]),
      ...packExtras(extras, captions),
    ]);
  }
  if (wrongCount > 0) {
    throw new DatasetError(
      `Expected "${imageKey}" (a path) and "text" (a string, or an array of strings) in every row of ${file}, ` +
        `but ${wrongCount} of ${wrongCount + packed.length} rows are wrong${kind === 'JSON' ? ' (counted from 0)' : ''}:\n${listed(wrong, wrongCount)}`,
    );
  }
  if (packed.length === 0) throw new DatasetError(`Expected at least one row in ${file} but it has none.`);
  if (!statSync(root, { throwIfNoEntry: false })?.isDirectory())
    throw new DatasetError(`Expected a folder of images at ${root} but there is none.`);
  const rows = lazyRows(packed.length, (index) => {
    const [image, prompt, ...rest] = packed.at(index);
    const { extras, captions } = unpackExtras(rest);
    const source = fileSource(resolve(root, image));
    return {
      image: source,
      promptImage: prompt === null ? source : fileSource(resolve(root, prompt)),
      captions,
      group: extras.group,
      mask: extras.mask === undefined ? undefined : fileSource(resolve(root, extras.mask)),
    };
  });
  const description = `${kind}: ${counted(rows.length, 'row')} in ${file}`;
  return { rows, description, fingerprint: hash.digest(), incomplete: [], leftOut: [] };
}

/** Returns the stored form of a row, or what is wrong with it. */
function readRow(row: unknown, imageKey: string, fields: RowFields, root: string): Packed | string {
  if (typeof row !== 'object' || row === null || Array.isArray(row)) return 'not an object';
  const record = row as Record<string, unknown>;
  const { [imageKey]: image, text, prompt_image_file: prompt } = record;
  const mask = fields.masks ? (record.mask_file ?? undefined) : undefined;
  if (image === undefined) return `"${imageKey}" is missing`;
  if (typeof image !== 'string' || image === '') return `"${imageKey}" is not a path`;
  if (prompt !== undefined && (typeof prompt !== 'string' || prompt === ''))
    return '"prompt_image_file" is not a path';
  if (mask !== undefined && (typeof mask !== 'string' || mask === '')) return '"mask_file" is not a path';
  if ([image, prompt, mask].some((path) => typeof path === 'string' && /^[a-z][a-z0-9+.-]+:\/\//i.test(path)))
    return 'images are not downloaded: download them first (img2dataset makes a WebDataset of such a list)';
  if (text === undefined) return '"text" is missing';
  const captions = captionsOf(text);
  if (captions === null) return '"text" is not a string or an array of strings';
  let extras: Extras<string>;
  try {
    const column = groupColumn(fields);
    extras = groupField(fields, relative(root, resolve(root, image)), column && record[column]);
  } catch (error) {
    return (error as Error).message;
  }
  if (mask !== undefined) extras.mask = mask;
  return [image, prompt ?? null, ...packExtras(extras, captions)];
}

function parseArray(file: string): unknown[] {
  let text: string;
  try {
    text = utf8(readFileSync(regularFile(file)));
  } catch (error) {
    throw new DatasetError(`Expected a dataset in UTF-8 at ${file} but ${(error as Error).message}.`, {
      cause: error,
    });
  }
  if (isJsonLines(text))
    throw new DatasetError(
      `Expected an array of rows in ${file} but received JSON Lines, an object in each line; give it the ending .jsonl.`,
    );
  const rows = parseJson(text, file, 1);
  if (Array.isArray(rows)) return rows;
  throw new DatasetError(
    `Expected an array of rows like {"image_file": "1.png", "text": "A dog"} in ${file} but received ${shown(rows)}.`,
  );
}

/** Returns whether the first line is a complete object and the second line begins another one. */
function isJsonLines(text: string): boolean {
  const [first = '', second = ''] = text.trimStart().split(/\n\s*/, 2);
  if (!first.startsWith('{') || !second.startsWith('{')) return false;
  try {
    JSON.parse(first);
    return true;
  } catch {
    return false;
  }
}

async function* parseLines(file: string): AsyncGenerator<Entry> {
  let number = 0;
  for await (const bytes of linesOf(file)) {
    number++;
    let line: string;
    try {
      line = utf8(bytes);
    } catch (cause) {
      throw new DatasetError(`Expected UTF-8 at ${file}:${number}.`, { cause });
    }
    if (number === 1 && line.trimStart().startsWith('['))
      throw new DatasetError(
        `Expected an object in each line of ${file} but received an array; give it the ending .json.`,
      );
    if (line.trim() !== '') yield [`${file}:${number}`, parseJson(line, file, number)];
  }
}

/** Yields the lines of a file as bytes, one in memory at a time. */
async function* linesOf(file: string): AsyncGenerator<Uint8Array> {
  /** The parts of a line that is not complete yet. */
  let parts: Buffer[] = [];
  try {
    for await (const chunk of createReadStream(regularFile(file)) as AsyncIterable<Buffer>) {
      let start = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, start)) {
        yield Buffer.concat([...parts, chunk.subarray(start, end)]);
        parts = [];
        start = end + 1;
      }
      parts.push(chunk.subarray(start));
    }
  } catch (error) {
    if (error instanceof DatasetError) throw error;
    throw new DatasetError(`Expected a dataset at ${file} but ${(error as Error).message}.`, {
      cause: error,
    });
  }
  yield Buffer.concat(parts);
}

/** Parses JSON. @param firstLine the number of the text's first line in the file @throws DatasetError with the place */
function parseJson(text: string, file: string, firstLine: number): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    const { line, column, excerpt } = jsonErrorPosition(text);
    const place = `${firstLine + line - 1}:${column}`;
    throw new DatasetError(`Expected JSON in ${file} but it breaks at ${place}, near: ${excerpt}`, { cause });
  }
}
