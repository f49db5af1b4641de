import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { cropJpeg, type JpegShrink, jpegLibrary, jpegSize } from './index.js';

sharp.cache(false);

/** Shading, edges and grain, as a photograph has. */
async function encoded(
  width: number,
  height: number,
  options: Parameters<ReturnType<typeof sharp>['jpeg']>[0] = {},
  isGrey = false,
): Promise<Buffer> {
  const data = new Uint8Array(3 * width * height);
  let state = 1;
  for (let i = 0; i < data.length; i++) {
    state = (Math.imul(state, 1103515245) + 12345) >>> 0;
    const [x, y] = [Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
    const shape = (x - 9) ** 2 + (y - 7) ** 2 < 60 ? 180 : 3 * x + y * (i % 3);
    data[i] = shape + (state >>> 24) / 6;
  }
  const image = sharp(data, { raw: { width, height, channels: 3 } });
  return (isGrey ? image.toColourspace('b-w') : image).jpeg({ quality: 90, ...options }).toBuffer();
}

/** What libjpeg makes of it. */
async function expected(jpeg: Uint8Array): Promise<Uint8Array> {
  return sharp(jpeg, { failOn: 'error' }).toColourspace('srgb').raw().toBuffer();
}

async function decoded(jpeg: Uint8Array, shrink: JpegShrink = 1): Promise<Uint8Array | null> {
  return (await cropJpeg(jpeg, shrink, []))?.[0] ?? null;
}

/** 20 × 12 pixels in 4:2:0 with a restart marker after each MCU, by Pillow's `restart_marker_blocks=1`. */
const RESTARTS = Buffer.from(
  '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAAoHBwgHBgoICAgLCgoLDhgQDg0NDh0VFhEYIx8lJCIfIiEmKzcvJik0KSEiMEExNDk7Pj4+JS5ESUM8SDc9Pjv/2wBDAQoLCw4NDhwQEBw7KCIoOzs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozs7Ozv/wAARCAAMABQDASIAAhEBAxEB/8QAHwAAAQUBAQEBAQEAAAAAAAAAAAECAwQFBgcICQoL/8QAtRAAAgEDAwIEAwUFBAQAAAF9AQIDAAQRBRIhMUEGE1FhByJxFDKBkaEII0KxwRVS0fAkM2JyggkKFhcYGRolJicoKSo0NTY3ODk6Q0RFRkdISUpTVFVWV1hZWmNkZWZnaGlqc3R1dnd4eXqDhIWGh4iJipKTlJWWl5iZmqKjpKWmp6ipqrKztLW2t7i5usLDxMXGx8jJytLT1NXW19jZ2uHi4+Tl5ufo6erx8vP09fb3+Pn6/8QAHwEAAwEBAQEBAQEBAQAAAAAAAAECAwQFBgcICQoL/8QAtREAAgECBAQDBAcFBAQAAQJ3AAECAxEEBSExBhJBUQdhcRMiMoEIFEKRobHBCSMzUvAVYnLRChYkNOEl8RcYGRomJygpKjU2Nzg5OkNERUZHSElKU1RVVldYWVpjZGVmZ2hpanN0dXZ3eHl6goOEhYaHiImKkpOUlZaXmJmaoqOkpaanqKmqsrO0tba3uLm6wsPExcbHyMnK0tPU1dbX2Nna4uPk5ebn6Onq8vP09fb3+Pn6/90ABAAB/9oADAMBAAIRAxEAPwDiLPRcKAqHLHHX/PrWxb6N02pj0GPQ/wCNdBb2sKlQFAzjn8cVpWtpCB93+H8+M10VcxlTtT8vT+utzycFmU3qf//QoxaMpXiM4/3sUV20VlBJGCV6cUVi8yqJ2svuX+TO6OZTsf/Z',
  'base64',
);

/** 27 × 21 pixels, and the SHA-256 of what Pillow 13 decodes in draft mode at 1/2, 1/4 and 1/8. */
const REDUCED: Record<string, string[]> = {
  '4:4:4': [
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAVABsDAREAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAABQQG/8QAHxAAAQQCAgMAAAAAAAAAAAAAAAEDBCECMRFhIoGR/8QAFwEBAQEBAAAAAAAAAAAAAAAABAUDB//EAB0RAAMBAQEBAAMAAAAAAAAAAAABAwIRIUExYfH/2gAMAwEAAhEDEQA/AMcxD6K+qmErCDENaoy3XS/BTlYQYidBd396ilKxYkStBdXffR6t4Rsw9eIzdTm0rCDEPVBdUXwpysIMQ+vYbdP6UpWLEh1pDB0fxoereEDLGFCaaZziNGIMR8eUMdN950pSoxBljH4G3p8f6KcqMrRjDhAmqPo9bfD/2Q==',
    'bd189ebddc782259',
    '7f4c5e03da7c8173',
    '6dfdd8a7db1ab030',
  ],
  '4:2:2': [
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAVABsDASEAAhEBAxEB/8QAFgABAQEAAAAAAAAAAAAAAAAABQQG/8QAHxAAAQQCAgMAAAAAAAAAAAAAAAEDBCECMRFhIoGR/8QAFgEBAQEAAAAAAAAAAAAAAAAABgUC/8QAHBEAAgIDAQEAAAAAAAAAAAAAAAMBBAIRISJB/9oADAMBAAIRAxEAPwDHMQ+hBiGtUVM2z8NVXCDETosSJWic54kru4Rsw9eIgxD1RprNyBqjhBiH17LEh1pCcxneCSu7yQMsYUIMR8eUNMymZBFRkiDLGPwrRjDhCa7OYEddk6P/2Q==',
    'f894934b4d1aaf2e',
    'bbe7552ddf3026d0',
    'fa4bab073445b942',
  ],
  '4:2:0': [
    '/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//wAARCAAVABsDASIAAhEBAxEB/8QAFwABAQEBAAAAAAAAAAAAAAAABQAEBv/EAB8QAAEEAgIDAAAAAAAAAAAAAAABAwQhAjERYSKBkf/EABgBAAMBAQAAAAAAAAAAAAAAAAQFBgMH/8QAHBEAAgIDAQEAAAAAAAAAAAAAAAECBAMRITFB/9oADAMBAAIRAxEAPwDjmIfQgxDWqEGYevEQYh6oNyWdfQepcD2InRsSJWhRiH17NiQ60gty2W36Ude5wwMsYUIMR8eUIjKbe2c8qyfBBljH4a0Yw4QiFmeTRSV5PR//2Q==',
    '52c0bb5e9cffe2ca',
    '4b14f3a826741e93',
    'ad856e6edddc5777',
  ],
};

describe.skipIf(jpegLibrary() === null)('cropJpeg', () => {
  it.each(['4:4:4', '4:2:0'] as const)(
    'gives libjpeg’s bytes at every size, with chroma %s',
    async (chromaSubsampling) => {
      for (let side = 1; side <= 34; side++) {
        const jpeg = await encoded(side, 35 - side, { chromaSubsampling });
        expect(jpegSize(jpeg)).toEqual([side, 35 - side]);
        expect(Buffer.compare((await decoded(jpeg))!, await expected(jpeg)), `${side}`).toBe(0);
      }
    },
  );

  it('gives libjpeg’s bytes at every quality, in grey, and with tables of its own codes', async () => {
    for (const quality of [1, 20, 60, 95, 100])
      for (const optimiseCoding of [true, false]) {
        const jpeg = await encoded(75, 53, { quality, optimiseCoding });
        expect(Buffer.compare((await decoded(jpeg))!, await expected(jpeg)), `${quality}`).toBe(0);
      }
    const grey = await encoded(41, 23, {}, true);
    expect(Buffer.compare((await decoded(grey))!, await expected(grey))).toBe(0);
  });

  it('follows restart markers, and refuses them out of order', async () => {
    expect(Buffer.compare((await decoded(RESTARTS))!, await expected(RESTARTS))).toBe(0);
    const swapped = Buffer.from(RESTARTS);
    const at = swapped.indexOf(Buffer.from([0xff, 0xd0]));
    expect(at).toBeGreaterThan(0);
    swapped[at + 1] = 0xd3;
    expect(await decoded(swapped)).toBeNull();
  });

  it.each(Object.entries(REDUCED))(
    'decodes at reduced sizes as Pillow’s draft mode does, with chroma %s',
    async (_, [file, ...hashes]) => {
      const jpeg = Buffer.from(file!, 'base64');
      for (const [i, shrink] of ([2, 4, 8] as const).entries()) {
        const pixels = (await decoded(jpeg, shrink))!;
        expect(pixels).toHaveLength(3 * Math.ceil(27 / shrink) * Math.ceil(21 / shrink));
        expect(createHash('sha256').update(pixels).digest('hex').slice(0, 16), `1/${shrink}`).toBe(hashes[i]);
      }
      expect(Buffer.compare((await decoded(jpeg))!, await expected(jpeg))).toBe(0);
    },
  );

  it('leaves other files to others', async () => {
    const jpeg = await encoded(40, 40);
    const others = [
      Buffer.alloc(0),
      Buffer.from('no image'),
      await encoded(40, 40, { progressive: true }),
      await sharp(jpeg).toColourspace('cmyk').jpeg().toBuffer(),
      await sharp(jpeg).png().toBuffer(),
    ];
    for (const other of others) expect(jpegSize(other)).toBeNull();
    await expect(async () => cropJpeg(others[1]!, 1, [])).rejects.toThrow('jpegSize takes');
  });

  it('decodes nothing of a file that is cut anywhere', async () => {
    const jpeg = await encoded(50, 40);
    for (let length = 0; length < jpeg.length; length += 7) {
      const part = jpeg.subarray(0, length);
      if (jpegSize(part) !== null) expect(await decoded(part), `${length}`).toBeNull();
    }
  });

  it('survives damage, and gives what libjpeg gives where it accepts a file', async () => {
    const jpeg = await encoded(64, 48);
    let state = 7;
    const random = (below: number): number => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return Math.floor((state / 2 ** 32) * below);
    };
    let accepted = 0;
    for (let i = 0; i < 1500; i++) {
      const damaged = Buffer.from(jpeg);
      for (let k = 0; k <= i % 3; k++) damaged[random(jpeg.length)] = random(256);
      const size = jpegSize(damaged);
      if (size === null || size[0] * size[1] > 1e6) continue;
      const pixels = await decoded(damaged);
      if (pixels === null) continue;
      accepted++;
      const theirs = await expected(damaged).catch(() => null);
      if (theirs !== null && theirs.length === pixels.length && i % 10 === 0)
        expect(maxDifference(pixels, theirs), `${i}`).toBe(0);
    }
    expect(accepted).toBeGreaterThan(50);
  });
});

function maxDifference(a: Uint8Array, b: Uint8Array): number {
  let most = 0;
  for (let i = 0; i < a.length; i++) most = Math.max(most, Math.abs(a[i]! - b[i]!));
  return most;
}
