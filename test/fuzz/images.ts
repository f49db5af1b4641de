/** @file Hostile images: bytes of every format, and PNG chunks whose checksums are put right again. */
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { pick, type Random } from '../../demo/world/random.js';
import { readImage } from '../../src/images/image.js';
import { fileSource } from '../../src/images/image-source.js';
import { trainCrop } from '../../src/images/train-transform.js';
import { below, edgeNumbers, mutateBytes, overwrite } from './bytes.js';
import type { Target } from './target.js';

const PNG_SIGNATURE = 8;

/** Changes one chunk's content, and its checksum to match. */
function mutatePng(png: Buffer, random: Random): Buffer {
  const chunks: [type: string, data: Buffer][] = [];
  for (let at = PNG_SIGNATURE; at + 12 <= png.length; ) {
    const length = png.readUInt32BE(at);
    chunks.push([png.toString('latin1', at + 4, at + 8), png.subarray(at + 8, at + 8 + length)]);
    at += 12 + length;
  }
  const at = below(chunks.length, random);
  const [type, data] = chunks[at] as [string, Buffer];
  if (type === 'IHDR' && random() < 0.7) {
    const header = Buffer.from(data);
    // Width and height take four bytes each, the other five fields one.
    const [place, size] = pick(
      [
        [0, 4],
        [4, 4],
        [8, 1],
        [9, 1],
        [10, 1],
        [12, 1],
      ] as const,
      random,
    );
    overwrite(header, place, size, pick(edgeNumbers, random), 'BE');
    chunks[at] = [type, header];
  } else if (random() < 0.2)
    chunks.splice(at, 0, [pick(['IDAT', 'PLTE', 'tRNS', 'iCCP', 'eXIf', 'acTL'], random), data]);
  else if (data.length > 0) chunks[at] = [type, mutateBytes([data], random)];
  const parts = chunks.map(([name, content]) => {
    const body = Buffer.concat([Buffer.from(name, 'latin1'), content]);
    const frame = Buffer.alloc(8);
    frame.writeUInt32BE(content.length);
    frame.writeUInt32BE(crc32(body), 4);
    return Buffer.concat([frame.subarray(0, 4), body, frame.subarray(4)]);
  });
  return Buffer.concat([png.subarray(0, PNG_SIGNATURE), ...parts]);
}

/** Changes the size in a JPEG's frame header (ITU T.81, B.2.2). */
function mutateJpegSize(jpeg: Buffer, random: Random): Buffer {
  const changed = Buffer.from(jpeg);
  const frame = changed.findIndex(
    (byte, i) => byte === 0xff && [0xc0, 0xc2].includes(changed[i + 1] as number),
  );
  if (frame >= 0) overwrite(changed, frame + 5 + 2 * below(2, random), 2, pick(edgeNumbers, random), 'BE');
  return changed;
}

async function seedImages(): Promise<Buffer[]> {
  const [width, height] = [24, 18];
  const pixels = Buffer.from(Array.from({ length: width * height * 3 }, (_, i) => (i * 37) % 256));
  const rgb = () => sharp(pixels, { raw: { width, height, channels: 3 } });
  return Promise.all([
    rgb().png().toBuffer(),
    rgb().ensureAlpha(0.5).png({ palette: true }).toBuffer(),
    rgb().greyscale().toColourspace('grey16').png().toBuffer(),
    rgb().jpeg().toBuffer(),
    rgb().jpeg({ progressive: true }).withMetadata({ orientation: 6 }).toBuffer(),
    rgb().toColourspace('cmyk').jpeg().toBuffer(),
    rgb().webp().toBuffer(),
    rgb().webp({ lossless: true }).toBuffer(),
    rgb().gif().toBuffer(),
    rgb().tiff({ compression: 'lzw' }).toBuffer(),
    rgb().tiff({ compression: 'none', tile: true, tileWidth: 16, tileHeight: 16 }).toBuffer(),
    rgb().avif({ effort: 0 }).toBuffer(),
  ]);
}

export async function imageTarget(folder: string): Promise<Target> {
  const seeds = await seedImages();
  const pngs = seeds.slice(0, 3);
  const jpegs = seeds.slice(3, 6);
  const file = join(folder, 'input.jpg');
  const make = (random: Random) => {
    const kind = random();
    if (kind < 0.3) return mutatePng(pick(pngs, random), random);
    return kind < 0.4 ? mutateJpegSize(pick(jpegs, random), random) : mutateBytes(seeds, random);
  };
  return {
    file,
    make,
    read: async () => trainCrop(await readImage(fileSource(file)), { width: 32, height: 32 }),
  };
}
