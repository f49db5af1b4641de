/**
 * @file WebDataset: tar files ("shards") whose members belong together by their name up to its first dot
 * (webdataset/webdataset, docs "The WebDataset Format"). A sample here is
 *
 *     000123.jpg          the image, in any format that is read
 *     000123.txt          captions, one per line; or
 *     000123.json         {"text": …} or {"caption": …}, a string or an array of strings, where there is no .txt
 *     000123.prompt.jpg   the reference image for the adapter, if it is not the image itself
 *
 * Members of other kinds are ignored. Shards are indexed by their headers alone; an image is read when it is needed.
 */
import { statSync } from 'node:fs';
import { basename } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { DatasetError } from '../base/errors.js';
import { type BadRow, counted, listed } from '../base/listing.js';
import { type ImageSource, sliceSource } from '../images/image-source.js';
import { maxBadRows } from './bad-rows.js';
import { captionLines, captionsOf, utf8 } from './captions.js';
import { type Dataset, ListHash, lazyRows } from './dataset.js';
import { isAddedByMacOs } from './folder-files.js';
import { IMAGE_ENDINGS, isImage, isUsualImage } from './image-endings.js';
import { PackedList } from './packed-list.js';
import { type TarMember, visitTar } from './tar.js';

/** The place of a member in its shard. */
type Place = [name: string, offset: number, size: number];

type Packed = [shard: number, image: Place, prompt: Place | null, ...captions: string[]];

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
  text?: string[];
  json?: string[];
  /** Why a caption file could not be used. */
  fault?: string;
}

/**
 * Indexes shards, in their order.
 * @param signal is checked between two shards; its reason is thrown
 * @throws DatasetError where a file is not a tar, or too many samples have no image or no caption
 */
export async function openWebDataset(shards: readonly string[], signal?: AbortSignal): Promise<Dataset> {
  const packed = new PackedList<Packed>();
  const hash = new ListHash();
  const incomplete: BadRow[] = [];
  const leftOut: BadRow[] = [];
  let withoutEnd = 0;
  for (const [number, shard] of shards.entries()) {
    await setImmediate();
    signal?.throwIfAborted();
    hash.add([basename(shard), statSync(shard).size]);
    const add = (draft: Draft, isCut: boolean): void => {
      const captions = draft.text ?? draft.json;
      if (draft.image !== undefined && captions !== undefined) {
        const row: Packed = [number, draft.image, draft.prompt ?? null, ...captions];
        packed.push(row);
        hash.add(row);
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
    withoutEnd += visitSamples(shard, add) ? 0 : 1;
  }
  const total = packed.length + incomplete.length;
  const limit = maxBadRows(total);
  if (packed.length === 0 || incomplete.length > limit) {
    const lines = incomplete.map(({ file, reason }) => `${file}: ${reason}`);
    throw new DatasetError(
      `Expected an image and a caption in every sample of ${shards[0]}${shards.length > 1 ? ' …' : ''} ` +
        `but ${incomplete.length} of ${total} samples are incomplete (at most ${limit} are skipped):\n${listed(lines)}\n` +
        'The members of a sample have one name up to the first dot and stand together: pack with tar --sort=name.',
    );
  }
  const rows = lazyRows(packed.length, (index) => {
    const [number, image, prompt, ...captions] = packed.at(index);
    const sourceOf = ([name, offset, size]: Place): ImageSource => {
      const shard = shards[number] as string;
      return sliceSource(`${shard}/${name}`, shard, offset, size);
    };
    const source = sourceOf(image);
    return { image: source, promptImage: prompt === null ? source : sourceOf(prompt), captions };
  });
  const cut = withoutEnd === 0 ? '' : `; cut, or without an end mark: ${counted(withoutEnd, 'shard')}`;
  return {
    rows,
    description: `WebDataset: ${counted(shards.length, 'shard')}, ${counted(rows.length, 'sample')}${cut}`,
    fingerprint: hash.digest(),
    incomplete,
    leftOut,
  };
}

/** Calls `add` for each sample of a shard. @returns whether the shard is complete */
function visitSamples(shard: string, add: (draft: Draft, isCut: boolean) => void): boolean {
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
    put(draft, extension, member);
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

function put(draft: Draft, extension: string, member: TarMember): void {
  const place: Place = [member.name, member.offset, member.size];
  if (isCaption(extension)) {
    try {
      const text = utf8(member.read());
      if (extension === 'txt') draft.text = captionLines(text);
      else draft.json = captionsOfJson(text);
    } catch (error) {
      draft.fault = `its .${extension} gives no caption: ${(error as Error).message}`;
    }
  } else if (extension.startsWith('prompt.')) draft.prompt = place;
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
function captionsOfJson(text: string): string[] {
  const { text: first, caption } = Object(JSON.parse(text)) as Record<string, unknown>;
  const captions = captionsOf(first ?? caption);
  if (captions === null) throw new Error('"text" or "caption" is not a string or an array of strings');
  return captions;
}
