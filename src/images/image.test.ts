import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { maxDifference, readGolden, SAMPLE_IMAGES } from '../../test/data-support.js';
import { ImageError, readImage, readImageSize } from './image.js';
import { fileSource } from './image-source.js';

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
    broken.push(['empty.jpg', Buffer.alloc(0), /it is not a JPEG, PNG/]);
    broken.push(['page.jpg', Buffer.from('<html></html>'), /it is not a JPEG, PNG/]);
    broken.push([
      'drawing.png',
      Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'),
      /svg/,
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
    await expect(readImage(fileSource(dir))).rejects.toThrow(/the system cannot read it \(EISDIR/);
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
      reasons.set(`half.${format}`, 'it is damaged or incomplete');
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
