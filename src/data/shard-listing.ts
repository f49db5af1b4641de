/**
 * @file Lists the samples of a WebDataset's shard: the members of a tar that belong together by their name up to its first dot
 * (webdataset/webdataset, docs "The WebDataset Format"). A sample here is
 *
 *     000123.jpg          the image, in any format that is read
 *     000123.txt          captions, one per line; or
 *     000123.json         {"text": …} or {"caption": …}, a string or an array of strings, where there is no .txt
 *     000123.prompt.jpg   the reference image for the adapter, if it is not the image itself
 *     000123.mask.png     the mask of the image, where masks are used
 *
 * A column that groups the samples is in the .json, also where there is a .txt. Members of other kinds are ignored.
 */
import type { BadRow } from '../base/listing.js';
import { captionLines, captionsOf, utf8 } from './captions.js';
import { isAddedByMacOs } from './folder-files.js';
import { IMAGE_ENDINGS, isImage, isUsualImage } from './image-endings.js';
import { PackedList } from './packed-list.js';
import { type Extras, groupColumn, groupField, packExtras, type RowFields } from './row-fields.js';
import { type TarMember, visitTar } from './tar.js';

/** The place of a member in its shard. */
export type Place = [name: string, offset: number, size: number];

/** A complete sample: its images, its fields if it has any, its captions. */
export type PackedRow = [image: Place, prompt: Place | null, ...rest: (Extras<Place> | string)[]];

/** What the headers of a shard say. */
export interface ShardListing {
  readonly rows: PackedList<PackedRow>;
  readonly incomplete: readonly BadRow[];
  readonly leftOut: readonly BadRow[];
  /** Whether the shard has its end mark. */
  readonly isComplete: boolean;
}

/** A listing as JSON, for a file or another process. */
export type UnpackedListing = Omit<ShardListing, 'rows'> & { readonly rows: readonly PackedRow[] };

export function unpackedListing({ rows, ...rest }: ShardListing): UnpackedListing {
  return { rows: Array.from(rows.lines(), (line) => JSON.parse(line) as PackedRow), ...rest };
}

export function packedListing({ rows, ...rest }: UnpackedListing): ShardListing {
  const packed = new PackedList<PackedRow>();
  for (const row of rows) packed.push(row);
  return { rows: packed, ...rest };
}

/** The members of one key that have been read so far. */
interface Draft {
  readonly key: string;
  readonly extensions: Set<string>;
  /** Extensions of the key's members that are not supported, such as .heic. */
  readonly notRead: readonly string[];
  /** The name of another image of the key, which is not used. */
  unused?: string;
  image?: Place;
  prompt?: Place;
  mask?: Place;
  /** The value of the column that groups samples. */
  group?: unknown;
  text?: string[];
  json?: string[];
  /** Why a caption file could not be used. */
  fault?: string;
}

/**
 * Lists the samples of a shard.
 * @param fields what is read of samples besides images and captions
 * @param name the name of the shard for messages; default: its path
 * @throws DatasetError where the file is not a tar
 */
export function listShard(
  file: string,
  { fields = {}, name: shard = file }: { fields?: RowFields; name?: string } = {},
): ShardListing {
  const rows = new PackedList<PackedRow>();
  const incomplete: BadRow[] = [];
  const leftOut: BadRow[] = [];
  const add = (draft: Draft, isCut: boolean): void => {
    const captions = draft.text ?? draft.json;
    const extras = extrasOf(draft, fields);
    if (draft.image !== undefined && captions !== undefined && extras !== null) {
      rows.push([draft.image, draft.prompt ?? null, ...packExtras(extras, captions)]);
      if (draft.unused !== undefined)
        leftOut.push({
          file: `${shard}/${draft.unused}`,
          reason: `${draft.image[0]} is used, of the same key`,
        });
      return;
    }
    const missing =
      draft.image === undefined
        ? `it has no image (${IMAGE_ENDINGS})${draft.notRead.map((ending) => `; its .${ending} is not read`).join('')}`
        : (draft.fault ?? 'it has no caption (.txt, or .json with "text" or "caption")');
    incomplete.push({ file: `${shard}/${draft.key}`, reason: isCut ? 'the shard is cut in it' : missing });
  };
  const isComplete = visitSamples(file, groupColumn(fields), add);
  return { rows, incomplete, leftOut, isComplete };
}

/** Returns the fields of a sample; null, with the fault in the draft, where one is wrong. */
function extrasOf(draft: Draft, fields: RowFields): Extras<Place> | null {
  try {
    const extras: Extras<Place> = groupField(fields, draft.key, draft.group);
    if (fields.masks && draft.mask !== undefined) extras.mask = draft.mask;
    return extras;
  } catch (error) {
    draft.fault = `in its .json, ${(error as Error).message}`;
    return null;
  }
}

/** Calls `add` for each sample of a shard. @param column what to read of .json files @returns whether the shard is complete */
function visitSamples(
  shard: string,
  column: string | undefined,
  add: (draft: Draft, isCut: boolean) => void,
): boolean {
  let draft: Draft | null = null;
  /** Members of the newest key that are neither images nor captions. */
  let notRead: { key: string; endings: string[] } = { key: '', endings: [] };
  const endingsOf = (key: string): string[] => {
    if (notRead.key !== key) notRead = { key, endings: [] };
    return notRead.endings;
  };
  const cutIn = visitTar(shard, (member) => {
    if (isAddedByMacOs(member.name)) return;
    const [key, extension] = split(member.name);
    if (!isImage(`.${extension}`) && !isCaption(extension)) {
      endingsOf(key).push(extension);
      return;
    }
    // If tars were concatenated, the next sample may have the same name as the last one.
    if (draft?.key !== key || draft.extensions.has(extension)) {
      if (draft !== null) add(draft, false);
      draft = { key, extensions: new Set(), notRead: endingsOf(key) };
    }
    draft.extensions.add(extension);
    put(draft, extension, member, column);
  });
  const last = draft as Draft | null;
  const cutKey = cutIn ? split(cutIn)[0] : undefined;
  // Members of the last sample may be missing because of the cut. A sample with a cut member is not used.
  if (last !== null && last.key !== cutKey) add(last, cutIn !== null);
  if (cutKey !== undefined) add({ key: cutKey, extensions: new Set(), notRead: [] }, true);
  return cutIn === null;
}

/** 'a/000123.prompt.jpg' → ['a/000123', 'prompt.jpg'] */
function split(name: string): [key: string, extension: string] {
  const dot = name.indexOf('.', name.lastIndexOf('/') + 1);
  return dot < 0 ? [name, ''] : [name.slice(0, dot), name.slice(dot + 1).toLowerCase()];
}

function isCaption(extension: string): boolean {
  return extension === 'txt' || extension === 'json';
}

function put(draft: Draft, extension: string, member: TarMember, column: string | undefined): void {
  const place: Place = [member.name, member.offset, member.size];
  if (isCaption(extension)) {
    try {
      const text = utf8(member.read());
      if (extension === 'txt') draft.text = captionLines(text);
      else {
        const record = Object(JSON.parse(text)) as Record<string, unknown>;
        if (column !== undefined) draft.group = record[column];
        draft.json = captionsOfJson(record);
      }
    } catch (error) {
      draft.fault = `its .${extension} gives no caption: ${(error as Error).message}`;
    }
  } else if (extension.startsWith('prompt.')) draft.prompt = place;
  else if (extension.startsWith('mask.')) draft.mask = place;
  else if (!extension.includes('.')) putImage(draft, place);
}

/** Sets the image of a sample. Of several images the last one is used; usual extensions take precedence over unusual ones. */
function putImage(draft: Draft, place: Place): void {
  const previous = draft.image;
  const isUsed = previous === undefined || isUsualImage(place[0]) || !isUsualImage(previous[0]);
  if (isUsed) draft.image = place;
  const unused = isUsed ? previous : place;
  if (unused !== undefined) draft.unused = unused[0];
}

/** Returns the captions in a JSON member. @throws Error where there are none */
function captionsOfJson({ text: first, caption }: Record<string, unknown>): string[] {
  const captions = captionsOf(first ?? caption);
  if (captions === null) throw new Error('"text" or "caption" is not a string or an array of strings');
  return captions;
}
