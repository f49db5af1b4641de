/**
 * @file A folder of images, each with its captions in a text file of the same name: `dog.jpg` and `dog.txt`. This is
 * how kohya-ss/sd-scripts and most caption tools lay datasets out.
 */
import { readFileSync } from 'node:fs';
import { join, parse } from 'node:path';
import { DatasetError } from '../base/errors.js';
import { regularFile } from '../base/regular-file.js';
import { fileSource } from '../images/image-source.js';
import { listed } from './bad-rows.js';
import { captionLines, utf8 } from './captions.js';
import { counted, type Dataset, ListHash, lazyRows } from './dataset.js';
import { PackedList } from './packed-list.js';

/**
 * @param names files of the folder, relative to it; those that are images become rows in their order
 * @throws DatasetError that names the images without captions
 */
export function openImageFolder(folder: string, names: readonly string[]): Dataset {
  const packed = new PackedList<[name: string, ...captions: string[]]>();
  const hash = new ListHash();
  const texts = new Set(names.filter((name) => name.endsWith('.txt')));
  const images = names.filter(isImage);
  const withoutCaption: string[] = [];
  for (const name of images) {
    const { dir, name: stem } = parse(name);
    const text = join(dir, `${stem}.txt`);
    if (!texts.has(text)) withoutCaption.push(name);
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
  const rows = lazyRows(packed.length, (index) => {
    const [name, ...captions] = packed.at(index);
    const image = fileSource(join(folder, name));
    return { image, promptImage: image, captions };
  });
  const description = `Folder: ${counted(rows.length, 'image')} with captions in ${folder}`;
  return { rows, description, fingerprint: hash.digest(), incomplete: [] };
}

/** Whether a file is an image, by its name. */
export function isImage(name: string): boolean {
  return /\.(jpe?g|png|webp)$/i.test(name);
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
