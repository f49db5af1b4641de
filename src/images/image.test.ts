import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { maxDifference, readGolden, SAMPLE_IMAGES } from '../../test/data-support.js';
import { withinBudget } from './decode-budget.js';
import { ImageError, readImage, readImageSize, useImage } from './image.js';
import { fileSource, sliceSource } from './image-source.js';

let dir: string;
beforeAll(() => {
  dir = mkdtempSync(join(tmpdir(), 'ip-adapter-image-'));
});
afterAll(() => rmSync(dir, { recursive: true }));

/** Writes raw pixels as an image file. */
async function save(name: string, pixels: number[], width: number, channels: 1 | 2 | 3 | 4): Promise<string> {
  const file = join(dir, name);
  const raw = { width, height: pixels.length / channels / width, channels };
  await sharp(Uint8Array.from(pixels), { raw }).toFile(file);
  return file;
}

async function bytesOf(file: string): Promise<number[]> {
  return [...(await readImage(fileSource(file))).data];
}

/** A box that files of ISO base media begin with, its brands, and something behind it. */
function mediaFile(...brands: string[]): Buffer {
  const box = Buffer.alloc(12 + 4 * brands.length);
  box.writeUInt32BE(box.length);
  box.write(`ftyp${brands[0]}\0\0\0\0${brands.slice(1).join('')}`, 4, 'latin1');
  return Buffer.concat([box, Buffer.from('something else')]);
}

const latin1 = (text: string): Buffer => Buffer.from(text, 'latin1');
const lfs = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n';
const foreign: [name: string, bytes: Buffer, reason: RegExp][] = [
  [
    'heic',
    mediaFile('heic', 'mif1', 'heic'),
    /a HEIC image, which is not supported: convert it to JPEG or PNG/,
  ],
  ['heif', mediaFile('mif1', 'heic'), /a HEIC image/],
  ['cut-avif', mediaFile('mif1', 'avif', 'miaf'), /damaged or incomplete: get or export/],
  ['video', mediaFile('isom', 'mp41'), /a video: extract its frames/],
  ['raw', mediaFile('crx ', 'isom'), /a camera's raw image/],
  ['lfs', latin1(lfs), /a Git LFS pointer.*run git lfs pull/],
  ['annex', latin1('/annex/objects/SHA256E-s1--00.jpg\n'), /a git-annex pointer.*run git annex get/],
  ['page', latin1('\n<!DOCTYPE html><html>'), /a web page \(HTML\).*download it again/],
  ['denied', latin1('<?xml version="1.0"?><Error>AccessDenied</Error>'), /XML that a server sent/],
  ['empty', Buffer.alloc(0), /empty \(0 bytes\): get/],
  ['zeros', Buffer.alloc(5000), /only zeros: get/],
  ['bmp', latin1('BM\x3a\0\0\0\0\0\0\0\x36\0\0\0'), /a BMP image, which is not supported: convert it/],
  ['photoshop', latin1('8BPS\0\x01'), /a Photoshop file/],
  ['jxl', latin1('\xff\x0a\xfa\x1f'), /a JPEG XL image/],
  ['jp2', latin1('\0\0\0\x0cjP  \r\n'), /a JPEG 2000 image/],
  ['ppm', latin1('P6\n1 1\n255\nabc'), /a Netpbm image/],
  ['pdf', latin1('%PDF-1.7'), /a PDF/],
  ['zip', latin1('PK\x03\x04\x14\0'), /an archive or compressed/],
];

describe('readImage', () => {
  it('drops alpha without compositing or un-premultiplying', async () => {
    const file = await save('alpha.png', [10, 20, 30, 0, 200, 100, 50, 128], 2, 4);
    expect(await bytesOf(file)).toEqual([10, 20, 30, 200, 100, 50]);
  });

  it('repeats grey in three channels, with or without alpha', async () => {
    expect(await bytesOf(await save('grey.png', [7, 250], 2, 1))).toEqual([7, 7, 7, 250, 250, 250]);
    expect(await bytesOf(await save('grey-alpha.png', [7, 0, 250, 9], 2, 2))).toEqual([
      7, 7, 7, 250, 250, 250,
    ]);
  });

  it('reads the colours of a palette', async () => {
    const file = join(dir, 'palette.png');
    const pixels = Uint8Array.from([255, 0, 0, 0, 0, 255, 255, 0, 0, 0, 255, 0]);
    await sharp(pixels, { raw: { width: 2, height: 2, channels: 3 } })
      .png({ palette: true })
      .toFile(file);
    expect((await sharp(file).metadata()).isPalette).toBe(true);
    expect(await bytesOf(file)).toEqual([...pixels]);
  });

  it("clips 16-bit grey to 255, as Pillow's conversion does", async () => {
    const file = join(dir, 'grey16.png');
    const raw = { width: 4, height: 1, channels: 1 as const };
    await sharp(Uint16Array.from([0, 200, 256, 65535]), { raw })
      .toColourspace('grey16')
      .png()
      .toFile(file);
    expect((await sharp(file).metadata()).depth).toBe('ushort');
    expect(await bytesOf(file)).toEqual([0, 0, 0, 200, 200, 200, 255, 255, 255, 255, 255, 255]);
  });

  it('reads the bytes of a source that is no file, and names it where they are no image', async () => {
    const file = await save('member.png', [1, 2, 3, 4, 5, 6], 2, 3);
    const name = 'shard.tar/1.png';
    const { data } = await readImage({ name, read: async () => readFileSync(file) });
    expect([...data]).toEqual([1, 2, 3, 4, 5, 6]);
    const cut = readImage({ name, read: async () => readFileSync(file).subarray(0, -20) });
    await expect(cut).rejects.toThrow(/image in shard\.tar\/1\.png but it is damaged or incomplete/);
    const text = readImage({ name, read: async () => Buffer.from('text') });
    await expect(text).rejects.toThrow(/shard\.tar\/1\.png but it is not a JPEG/);
  });

  it('ignores the EXIF orientation', async () => {
    const file = join(dir, 'rotated.png');
    const raw = { width: 2, height: 1, channels: 3 as const };
    await sharp(Uint8Array.from([1, 2, 3, 4, 5, 6]), { raw })
      .withMetadata({ orientation: 6 })
      .toFile(file);
    expect((await sharp(file).metadata()).orientation).toBe(6);
    expect(await readImage(fileSource(file))).toMatchObject({ width: 2, height: 1 });
  });

  it('ignores an embedded colour profile', async () => {
    const file = join(dir, 'profile.png');
    const raw = { width: 1, height: 1, channels: 3 as const };
    // Stored in Display P3, sRGB's strong red is a weaker number; a managed reader turns it back.
    await sharp(Uint8Array.from([250, 10, 10]), { raw })
      .withIccProfile('p3')
      .toFile(file);
    const [managed] = await sharp(file).raw().toBuffer();
    expect(managed).toBeGreaterThan(245);
    expect((await bytesOf(file))[0]).toBeLessThan(240);
  });

  it('refuses what Pillow refuses, and says why', async () => {
    const noise = Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 2654435761) >>> 24);
    const broken: [string, Buffer, RegExp][] = [];
    for (const format of ['png', 'jpg', 'webp']) {
      const whole = readFileSync(await save(`whole.${format}`, noise, 64, 3));
      broken.push([`half.${format}`, whole.subarray(0, whole.length / 2), /damaged or incomplete/]);
    }
    const jpeg = readFileSync(join(dir, 'whole.jpg'));
    broken.push(['no-end.jpg', jpeg.subarray(0, -2), /damaged or incomplete/]);
    broken.push(['text.jpg', Buffer.from('text'), /it is not a JPEG, PNG/]);
    broken.push([
      'drawing.png',
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
      /it is an SVG drawing/,
    ]);
    const huge = readFileSync(join(dir, 'whole.png'));
    huge.writeUInt32BE(20_000, 16);
    huge.writeUInt32BE(20_000, 20);
    huge.writeUInt32BE(crc32(huge.subarray(12, 29)), 29);
    broken.push(['huge.png', huge, /it has more than 178956970 pixels/]);
    for (const [name, bytes, reason] of broken) {
      writeFileSync(join(dir, name), bytes);
      const error = await readImage(fileSource(join(dir, name))).catch((e: unknown) => e);
      expect(error, name).toBeInstanceOf(ImageError);
      expect((error as ImageError).reason, name).toMatch(reason);
      expect((error as ImageError).message, name).toContain(name);
    }
    await expect(readImage(fileSource(join(dir, 'absent.png')))).rejects.toThrow(
      /absent\.png but the file is missing/,
    );
    await expect(readImage(fileSource(dir))).rejects.toThrow(/it is a folder, not a file/);
  });

  it.each(foreign)(
    'names %s as what it is, whatever its ending, and says what to do',
    async (name, bytes, reason) => {
      for (const ending of ['jpg', 'png']) {
        const file = join(dir, `${name}.${ending}`);
        writeFileSync(file, bytes);
        for (const source of [fileSource(file), { name: 'member', read: async () => bytes }]) {
          const error = await readImage(source).catch((e: unknown) => e);
          expect((error as ImageError).reason).toMatch(reason);
        }
      }
    },
  );

  it('opens regular files only: a named pipe would wait for ever', async () => {
    const pipe = join(dir, 'pipe.png');
    execFileSync('mkfifo', [pipe]);
    const refused = async (file: string) => (await readImage(fileSource(file)).catch((e) => e)).message;
    expect(await refused(pipe)).toMatch(/pipe\.png but it is a named pipe, not a file/);
    expect(await refused('/dev/zero')).toMatch(/it is a device, not a file/);
    await expect(readImageSize(fileSource(pipe))).rejects.toThrow(/named pipe/);
    await expect(fileSource(pipe).read()).rejects.toThrow(/named pipe/);
    await expect(sliceSource('pipe/1', pipe, 0, 1).read()).rejects.toThrow(/named pipe/);
  });

  it('says where a missing file is there in another spelling', async () => {
    mkdirSync(join(dir, 'images'));
    for (const name of ['images/1.png', 'caf\u00e9.png', 'the\u0301.png']) await save(name, [1, 2, 3], 1, 3);
    writeFileSync(Buffer.from(join(dir, 'm\u00fc.png'), 'latin1'), '');
    const reason = async (name: string) =>
      (await readImage(fileSource(join(dir, name))).catch((e) => e)).reason;
    expect(await reason('images\\1.png')).toMatch(
      /missing: its path has backslashes.*use \/ instead.*that file exists/,
    );
    expect(await reason('images\\2.png')).toMatch(/backslashes, as on Windows; use \/ instead$/);
    expect(await reason('cafe\u0301.png')).toMatch(/accents encoded differently/);
    expect(await reason('th\u00e9.png')).toMatch(/accents encoded differently/);
    expect(await reason('m\u00fc.png')).toMatch(/in Latin-1, not UTF-8: rename the file/);
    expect(await reason('none.png')).toBe('the file is missing');
  });

  it('passes on why a part of a file cannot be read', async () => {
    const read = async () => {
      throw new Error('its bytes are not in the file');
    };
    await expect(readImage({ name: 'a', read })).rejects.toThrow(
      'image in a but its bytes are not in the file.',
    );
  });

  it('allocates no memory for pixels that a file cannot hold', async () => {
    const hollow = readFileSync(await save('hollow.png', [1, 2, 3], 1, 3));
    hollow.writeUInt32BE(13_000, 16);
    hollow.writeUInt32BE(13_000, 20);
    hollow.writeUInt32BE(crc32(hollow.subarray(12, 29)), 29);
    writeFileSync(join(dir, 'hollow.png'), hollow);
    const before = process.resourceUsage().maxRSS;
    for (const source of [fileSource(join(dir, 'hollow.png')), { name: 'member', read: async () => hollow }])
      await expect(readImage(source)).rejects.toThrow(/damaged or incomplete/);
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(100_000);
  });

  it('holds the memory of few large images at a time', async () => {
    // 100 megapixels in 13 kB, as a decompression bomb or an empty map has them.
    const bomb = join(dir, 'bomb.png');
    const create = { width: 10_000, height: 10_000, channels: 3 as const, background: 'teal' };
    await sharp({ create }).png({ palette: true, colours: 2, compressionLevel: 9 }).toFile(bomb);
    expect(statSync(bomb).size).toBeLessThan(40_000);
    const start = process.memoryUsage.rss();
    let peak = 0;
    const watch = setInterval(() => {
      peak = Math.max(peak, process.memoryUsage.rss() - start);
    }, 10);
    const sum = async ({ data }: { data: Uint8Array }) => data[0]! + data.at(-1)!;
    const sums = await Promise.all(Array.from({ length: 3 }, () => useImage(fileSource(bomb), sum)));
    clearInterval(watch);
    expect(sums).toEqual([128, 128, 128]);
    // One takes 300 MB; V8 may free one when the next is begun.
    expect(peak / 1e6).toBeLessThan(750);
  });

  it('says of each of many bad images what is wrong with that one', async () => {
    const noise = Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 2654435761) >>> 24);
    const reasons = new Map([
      ['absent.png', 'the file is missing'],
      ['text.png', 'it is not a JPEG, PNG, WebP, GIF, TIFF or AVIF file'],
    ]);
    writeFileSync(join(dir, 'text.png'), 'text');
    for (const format of ['png', 'jpg', 'webp']) {
      const whole = readFileSync(await save(`whole.${format}`, noise, 64, 3));
      writeFileSync(join(dir, `half.${format}`), whole.subarray(0, whole.length / 2));
      reasons.set(`half.${format}`, 'it is damaged or incomplete: get or export it again');
    }
    // So many that some of them fail in two threads at once.
    const files = Array.from({ length: 400 }, () => [...reasons.keys()]).flat();
    const errors = await Promise.all(
      files.map((name) => readImage(fileSource(join(dir, name))).catch((error: ImageError) => error)),
    );
    const wrong = files.filter((name, i) => (errors[i] as ImageError).reason !== reasons.get(name));
    expect(wrong).toEqual([]);
  });
});

it('runs as much at once as fits, in order, and one that never fits alone', async () => {
  const MB = 2 ** 20;
  let [running, most] = [0, 0];
  const order: number[] = [];
  const work = (bytes: number, index: number) =>
    withinBudget(bytes, async () => {
      order.push(index);
      running += bytes;
      most = Math.max(most, running);
      await new Promise((resolve) => setTimeout(resolve, 1));
      running -= bytes;
      if (index === 2) throw new Error('its budget is free again');
    });
  const sizes = [300, 200, 100, 2000, 100, 500, 12];
  const ended = await Promise.allSettled(sizes.map((size, index) => work(size * MB, index)));
  expect(ended.map(({ status }) => status === 'rejected')).toEqual(sizes.map((_, index) => index === 2));
  expect(order).toEqual([0, 1, 2, 3, 4, 5, 6]);
  expect(most).toBe(2000 * MB);
});

describe('readImageSize', () => {
  it('is the size of the decoded image, turned by EXIF or not, of every format', async () => {
    for (const format of ['png', 'jpg', 'webp', 'gif', 'tiff', 'avif']) {
      const file = join(dir, `size.${format}`);
      const raw = { width: 33, height: 20, channels: 3 as const };
      await sharp(new Uint8Array(33 * 20 * 3), { raw })
        .withMetadata({ orientation: 6 })
        .toFile(file);
      const { width, height } = await readImage(fileSource(file));
      expect(await readImageSize(fileSource(file)), format).toEqual({ width, height });
      expect(await readImageSize({ name: 'member', read: async () => readFileSync(file) })).toEqual({
        width,
        height,
      });
    }
  });

  it('does not need the pixels, but a header', async () => {
    const noise = Array.from({ length: 64 * 64 * 3 }, (_, i) => (i * 2654435761) >>> 24);
    const whole = readFileSync(await save('header.png', noise, 64, 3));
    writeFileSync(join(dir, 'cut.png'), whole.subarray(0, whole.length / 2));
    expect(await readImageSize(fileSource(join(dir, 'cut.png')))).toEqual({ width: 64, height: 64 });
    writeFileSync(join(dir, 'text.png'), 'text');
    await expect(readImageSize(fileSource(join(dir, 'text.png')))).rejects.toThrow(ImageError);
    await expect(readImageSize(fileSource(join(dir, 'absent.png')))).rejects.toThrow(/file is missing/);
  });
});

describe.skipIf(SAMPLE_IMAGES === null)('readImage on the sample images (../shared/images)', () => {
  const golden = readGolden('preprocess/train_transform_u8.safetensors');
  const decoded = [...golden].filter(([name]) => name.endsWith('.decoded_rgb'));

  it.each(decoded)('%s equals Pillow', async (name, expected) => {
    const image = await readImage(fileSource(join(SAMPLE_IMAGES!, name.replace('.decoded_rgb', ''))));
    expect([image.height, image.width, 3]).toEqual(expected.shape);
    // Not one level off, JPEG included: sharp and Pillow decode with the same arithmetic.
    expect(maxDifference(image.data, expected.data)).toBe(0);
  });
});
