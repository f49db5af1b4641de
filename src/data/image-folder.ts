/**
 * @file Datasets that are a folder of images, each with its captions in a text file of the same name: `dog.jpg` and
 * `dog.txt`. kohya-ss/sd-scripts and most captioning tools use this layout.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join, parse } from 'node:path';
import { DatasetError } from '../base/errors.js';
import { type BadRow, counted, listed } from '../base/listing.js';
import { regularFile } from '../base/regular-file.js';
import { fileSource } from '../images/image-source.js';
import { captionLines, utf8 } from './captions.js';
import { type Dataset, ListHash, lazyRows } from './dataset.js';
import { IMAGE_ENDINGS, isImage, isUsualImage } from './image-endings.js';
import { PackedList } from './packed-list.js';
import {
  assertGroupBy,
  type Extras,
  groupField,
  packExtras,
  type RowFields,
  unpackExtras,
} from './row-fields.js';

/**
 * Opens a folder and pairs images with their captions.
 * @param names the files of the folder, relative to it; images become rows in this order
 * @throws DatasetError that names the images without captions
 */
export function openImageFolder(folder: string, names: readonly string[], fields: RowFields = {}): Dataset {
  assertGroupBy(fields, `${folder}, a folder of images,`, ['name']);
  const packed = new PackedList<[name: string, ...rest: (Extras<string> | string)[]]>();
  const hash = new ListHash();
  const captions = new CaptionFiles(names);
  const masks = masksOf(names);
  // Where masks are not used, one with a caption of its own is an image of that name.
  const areMasks = new Set([...masks.values()].filter((name) => fields.masks || !captions.has(name)));
  const images = names.filter((name) => isImage(name) && !areMasks.has(name));
  const usualImages = new Map(images.filter(isUsualImage).map((name) => [stemOf(name), name]));
  const withoutCaption: string[] = [];
  const incomplete: BadRow[] = [];
  const leftOut: BadRow[] = [];
  for (const name of images) {
    const other = isUsualImage(name) ? undefined : usualImages.get(stemOf(name));
    const text = captions.take(name);
    if (other !== undefined)
      leftOut.push({ file: join(folder, name), reason: `${other} is used, with the caption of both` });
    else if (text === undefined && isUsualImage(name)) withoutCaption.push(name);
    else if (text === undefined)
      leftOut.push({ file: join(folder, name), reason: 'it has no caption beside it (.txt)' });
    else if (name.includes('\ufffd') && !existsSync(join(folder, name)))
      incomplete.push({
        file: join(folder, name),
        reason: 'its name is not in UTF-8: rename it (convmv -f latin1 -t utf8)',
      });
    else {
      const mask = fields.masks ? masks.get(stemOf(name)) : undefined;
      const extras = { ...groupField(fields, name, undefined), ...(mask !== undefined && { mask }) };
      const row: [string, ...(Extras<string> | string)[]] = [
        name,
        ...packExtras(extras, captionLines(readText(join(folder, text)))),
      ];
      packed.push(row);
      hash.add(row);
    }
  }
  if (withoutCaption.length > 0)
    throw new DatasetError(
      `Expected a caption beside every image in ${folder} (dog.txt for dog.jpg), ` +
        `but ${withoutCaption.length} of ${images.length} have none:\n${listed(withoutCaption)}\n` +
        'Write them; an empty file stands for an empty caption.',
    );
  for (const [text, others] of captions.unused()) {
    const reason = `its extension is not supported (${IMAGE_ENDINGS}): convert it`;
    incomplete.push(...others.map((name) => ({ file: join(folder, name), reason })));
    if (others.length === 0)
      leftOut.push({ file: join(folder, text), reason: 'there is no image with its name' });
  }
  if (packed.length === 0) {
    const lines = [...incomplete, ...leftOut].map(({ file, reason }) => `${file}: ${reason}`);
    throw new DatasetError(
      `Expected images with captions in ${folder} but there are none:\n${listed(lines)}`,
    );
  }
  const rows = lazyRows(packed.length, (index) => {
    const [name, ...rest] = packed.at(index);
    const { extras, captions } = unpackExtras(rest);
    const image = fileSource(join(folder, name));
    const mask = extras.mask === undefined ? undefined : fileSource(join(folder, extras.mask));
    return { image, promptImage: image, captions, group: extras.group, mask };
  });
  const description = `Folder: ${counted(rows.length, 'image')} with captions in ${folder}`;
  return { rows, description, fingerprint: hash.digest(), incomplete, leftOut };
}

/** Returns a name without its extension, in Unicode NFC: file systems and archives use composed and decomposed accents. */
function stemOf(name: string): string {
  const { dir, name: stem } = parse(name);
  return join(dir, stem).normalize();
}

/** Returns the masks by the stems of their images: `dog.mask.png` is the mask of `dog.jpg`. */
function masksOf(names: readonly string[]): Map<string, string> {
  const stems = new Set(names.filter(isImage).map(stemOf));
  const masks = names.filter((name) => isImage(name) && /\.mask$/i.test(parse(name).name));
  const pairs = masks.map((name) => [stemOf(stemOf(name)), name] as const);
  return new Map(pairs.filter(([stem]) => stems.has(stem)));
}

/** The caption files of a folder, and the other files of the same names. */
class CaptionFiles {
  readonly #texts = new Set<string>();
  /** Caption files by normalised name, for images whose caption differs in accents or in the case of its extension. */
  readonly #byStem = new Map<string, string>();
  /** Files that are neither captions nor supported images, by normalised name. */
  readonly #others = new Map<string, string[]>();
  readonly #taken = new Set<string>();

  constructor(names: readonly string[]) {
    for (const name of names) {
      const stem = stemOf(name);
      if (/\.txt$/i.test(name)) {
        this.#texts.add(name);
        this.#byStem.set(stem, name);
      } else if (!isImage(name)) this.#others.set(stem, [...(this.#others.get(stem) ?? []), name]);
    }
  }

  has(image: string): boolean {
    return this.#of(image) !== undefined;
  }

  /** Returns the caption file of an image and marks it as used. */
  take(image: string): string | undefined {
    const text = this.#of(image);
    if (text !== undefined) this.#taken.add(text);
    return text;
  }

  #of(image: string): string | undefined {
    const { dir, name } = parse(image);
    const exact = join(dir, `${name}.txt`);
    return this.#texts.has(exact) ? exact : this.#byStem.get(stemOf(image));
  }

  /** Returns the caption files that belong to no image, each with the other files of its name. */
  unused(): [text: string, others: readonly string[]][] {
    const unused = [...this.#texts].filter((text) => !this.#taken.has(text));
    return unused.map((text) => [text, this.#others.get(stemOf(text)) ?? []]);
  }
}

function readText(file: string): string {
  try {
    return utf8(readFileSync(regularFile(file)));
  } catch (cause) {
    throw new DatasetError(`Expected a caption in UTF-8 in ${file} but ${(cause as Error).message}.`, {
      cause,
    });
  }
}
