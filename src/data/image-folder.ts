/**
 * @file A folder of images, each with its captions in a text file of the same name: `dog.jpg` and `dog.txt`. This is
 * how kohya-ss/sd-scripts and most caption tools lay datasets out.
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

/**
 * Pairs images with their captions.
 * @param names files of the folder, relative to it; those that are images become rows in their order
 * @throws DatasetError that names the images without captions
 */
export function openImageFolder(folder: string, names: readonly string[]): Dataset {
  const packed = new PackedList<[name: string, ...captions: string[]]>();
  const hash = new ListHash();
  const captions = new CaptionFiles(names);
  const images = names.filter(isImage);
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
      const row: [string, ...string[]] = [name, ...captionLines(readText(join(folder, text)))];
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
  for (const [text, others] of captions.left()) {
    const reason = `its ending is none of those that are read (${IMAGE_ENDINGS}): convert it`;
    incomplete.push(...others.map((name) => ({ file: join(folder, name), reason })));
    if (others.length === 0)
      leftOut.push({ file: join(folder, text), reason: 'there is no image of its name' });
  }
  if (packed.length === 0) {
    const lines = [...incomplete, ...leftOut].map(({ file, reason }) => `${file}: ${reason}`);
    throw new DatasetError(
      `Expected images with captions in ${folder} but there are none:\n${listed(lines)}`,
    );
  }
  const rows = lazyRows(packed.length, (index) => {
    const [name, ...captions] = packed.at(index);
    const image = fileSource(join(folder, name));
    return { image, promptImage: image, captions };
  });
  const description = `Folder: ${counted(rows.length, 'image')} with captions in ${folder}`;
  return { rows, description, fingerprint: hash.digest(), incomplete, leftOut };
}

/** The name without its ending. Accents are composed, since file systems and archives write them in either way. */
function stemOf(name: string): string {
  const { dir, name: stem } = parse(name);
  return join(dir, stem).normalize();
}

/** The captions of a folder, and the other files with their names. */
class CaptionFiles {
  readonly #texts = new Set<string>();
  /** For an image without a caption of exactly its name: one with its accents or its ending written in another way. */
  readonly #byStem = new Map<string, string>();
  /** Files that are neither captions nor images that are read. */
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

  /** The caption of an image, which belongs to one then. */
  take(image: string): string | undefined {
    const { dir, name } = parse(image);
    const exact = join(dir, `${name}.txt`);
    const text = this.#texts.has(exact) ? exact : this.#byStem.get(stemOf(image));
    if (text !== undefined) this.#taken.add(text);
    return text;
  }

  /** Captions that belong to no image, each with the other files of its name. */
  left(): [text: string, others: readonly string[]][] {
    const left = [...this.#texts].filter((text) => !this.#taken.has(text));
    return left.map((text) => [text, this.#others.get(stemOf(text)) ?? []]);
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
