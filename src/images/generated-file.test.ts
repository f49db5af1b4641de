import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deflateSync } from 'node:zlib';
import fc from 'fast-check';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { ConfigError } from '../base/errors.js';
import { encodeImage, readSettingsText } from './generated-file.js';
import { readPngText } from './png.js';

let root: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), 'ip-adapter-files-'));
});
afterAll(() => rmSync(root, { recursive: true }));

const image = {
  data: Uint8Array.from({ length: 16 * 8 * 3 }, (_, i) => (i * 7) % 256),
  width: 16,
  height: 8,
};
const ascii = (value: unknown): string =>
  JSON.stringify(value).replace(/[^ -~]/g, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);

/** The text of EXIF's UserComment, read from the bytes as the standard says. */
function userComment(exif: Buffer): string {
  const tiff = exif.subarray(exif.indexOf('MM\0*'));
  const entry = (directory: number): { tag: number; count: number; value: number } => ({
    tag: tiff.readUInt16BE(directory + 2),
    count: tiff.readUInt32BE(directory + 6),
    value: tiff.readUInt32BE(directory + 10),
  });
  const pointer = entry(tiff.readUInt32BE(4));
  expect(pointer.tag).toBe(0x8769);
  const comment = entry(pointer.value);
  expect(comment.tag).toBe(0x9286);
  const bytes = tiff.subarray(comment.value, comment.value + comment.count);
  expect(bytes.toString('latin1', 0, 8)).toBe('UNICODE\0');
  return Buffer.from(bytes.subarray(8)).swap16().toString('utf16le');
}

describe.each(['.png', '.webp', '.jpg', '.JPEG'])('an image file that ends in %s', (ending) => {
  const file = () => join(root, `image${ending}`);
  const written = async (parameters: string, settings: string) => {
    const bytes = await encodeImage(image, file(), { parameters, settings });
    writeFileSync(file(), bytes);
    return sharp(bytes).metadata();
  };

  it('keeps the settings for this package and for others, whatever the prompt is', async () => {
    const anyText = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.string(),
      fc.constantFrom('"', '\n\r\n', '猫,: 🐈‍⬛'),
    );
    await fc.assert(
      fc.asyncProperty(anyText, async (prompt) => {
        const parameters = `${prompt}\nSteps: 3`;
        const { exif } = await written(parameters, ascii({ prompt }));
        expect(JSON.parse((await readSettingsText(file())) as string)).toEqual({ prompt });
        // PNG's own text has no NUL, which ends it.
        if (ending !== '.png') expect(userComment(exif as Buffer)).toBe(parameters);
      }),
      { numRuns: 60 },
    );
  });

  it('is the same image with and without them', async () => {
    const { width, height } = await written('a', '{}');
    const pixels = (bytes: Buffer) => sharp(bytes).removeAlpha().raw().toBuffer();
    expect(await pixels(readFileSync(file()))).toEqual(await pixels(await encodeImage(image, file())));
    expect([width, height]).toEqual([16, 8]);
  });
});

describe('encodeImage', () => {
  it('is lossless as PNG, and close in the other formats', async () => {
    const smooth = { ...image, data: image.data.map((_, i) => 100 + Math.floor(i / 48) * 8 + (i % 3) * 20) };
    const worst = async (ending: string) => {
      const pixels = await sharp(await encodeImage(smooth, ending))
        .removeAlpha()
        .raw()
        .toBuffer();
      return Math.max(...smooth.data.map((value, i) => Math.abs(value - (pixels[i] as number))));
    };
    expect(await worst('.png')).toBe(0);
    expect(await worst('.jpg')).toBeLessThan(4);
    expect(await worst('.webp')).toBeLessThan(8);
  });

  it('refuses other endings, and settings that a JPEG has no room for', async () => {
    await expect(encodeImage(image, 'a.gif')).rejects.toThrow(
      /ends in \.png, \.webp, \.jpg, \.jpeg but received a\.gif/,
    );
    const long = { parameters: 'a', settings: 'x'.repeat(70_000) };
    await expect(encodeImage(image, 'a.jpg', long)).rejects.toThrow(ConfigError);
    await expect(
      encodeImage(image, 'a.jpg', { parameters: 'é'.repeat(40_000), settings: '{}' }),
    ).rejects.toThrow(/room for 65533; write a PNG/);
    expect(await encodeImage(image, 'a.webp', long)).toBeInstanceOf(Buffer);
  });
});

describe('readSettingsText', () => {
  it('finds none in other images, and in files that are no images', async () => {
    const plain = join(root, 'plain.webp');
    await sharp(image.data, { raw: { width: 16, height: 8, channels: 3 } }).toFile(plain);
    expect(await readSettingsText(plain)).toBeUndefined();
    writeFileSync(plain, 'no image');
    expect(await readSettingsText(plain)).toBeUndefined();
    writeFileSync(plain, await encodeImage(image, '.png'));
    expect(await readSettingsText(plain)).toBeUndefined();
  });
});

describe('readPngText', () => {
  const chunk = (type: string, data: Buffer): Buffer => {
    const length = Buffer.alloc(4);
    length.writeUInt32BE(data.length);
    return Buffer.concat([length, Buffer.from(type, 'latin1'), data, Buffer.alloc(4)]);
  };

  it('reads every kind of text chunk, and leaves out damaged ones', async () => {
    const png = await encodeImage(image, '.png');
    const text = Buffer.from('Grüße, 猫');
    const chunks = [
      chunk('tEXt', Buffer.from('a\0caf\xe9', 'latin1')),
      chunk('zTXt', Buffer.concat([Buffer.from('b\0\0'), deflateSync('packed')])),
      chunk('zTXt', Buffer.from('broken\0\0xx')),
      chunk('iTXt', Buffer.concat([Buffer.from('c\0\0\0de\0tr\0'), text])),
      chunk('iTXt', Buffer.concat([Buffer.from('d\0\x01\0\0\0'), deflateSync(text)])),
    ];
    const whole = Buffer.concat([png.subarray(0, 33), ...chunks, png.subarray(33)]);
    expect(readPngText(whole)).toEqual(
      new Map([
        ['a', 'café'],
        ['b', 'packed'],
        ['c', 'Grüße, 猫'],
        ['d', 'Grüße, 猫'],
      ]),
    );
    expect(readPngText(whole.subarray(0, 45))).toEqual(new Map());
    expect(readPngText(Buffer.from('no'))).toBeNull();
  });

  it('unpacks a bounded number of bytes of all texts together', async () => {
    const png = await encodeImage(image, '.png');
    // Each unpacks to 8 MiB, of which two are as much as settings may have.
    const packed = deflateSync(Buffer.alloc(2 ** 23, 'x'));
    const bombs = Array.from({ length: 20 }, (_, i) =>
      chunk('zTXt', Buffer.concat([Buffer.from(`bomb${i}\0\0`), packed])),
    );
    const texts = readPngText(Buffer.concat([png.subarray(0, 33), ...bombs, png.subarray(33)]));
    expect([...(texts as Map<string, string>).keys()]).toEqual(['bomb0', 'bomb1']);
  });
});
