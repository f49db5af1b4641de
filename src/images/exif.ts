/**
 * @file Puts a text as EXIF's UserComment into JPEG and WebP files, where web UIs look for the settings of generated images
 * (AUTOMATIC1111 `modules/images.py`; EXIF 2.32, section 4.6.5).
 */
import { ConfigError } from '../base/errors.js';

/** A segment of a JPEG has two bytes for its length, which they count in. */
const MAX_SEGMENT = 0xffff - 2;

/** Returns a JPEG with the text. @throws ConfigError where it is longer than a segment */
export function withJpegComment(jpeg: Buffer, text: string): Buffer {
  const content = Buffer.concat([Buffer.from('Exif\0\0', 'latin1'), exifOf(text)]);
  if (content.length > MAX_SEGMENT)
    throw new ConfigError(
      `The settings of the image take ${content.length} bytes, and a JPEG has room for ${MAX_SEGMENT}; write a PNG`,
    );
  const marker = Buffer.from([0xff, 0xe1, 0, 0]);
  marker.writeUInt16BE(content.length + 2, 2);
  // Before all other segments, as EXIF wants it.
  return Buffer.concat([jpeg.subarray(0, 2), marker, content, jpeg.subarray(2)]);
}

/**
 * Returns a WebP with the text.
 * @param webp in the extended format, which files with other metadata have (WebP container specification)
 */
export function withWebpComment(webp: Buffer, text: string): Buffer {
  const content = exifOf(text);
  const chunk = Buffer.alloc(8 + content.length + (content.length % 2));
  chunk.write('EXIF', 'latin1');
  chunk.writeUInt32LE(content.length, 4);
  content.copy(chunk, 8);
  const whole = Buffer.concat([webp, chunk]);
  whole.writeUInt32LE(whole.length - 8, 4);
  // The flags are the first byte of the chunk VP8X.
  whole[20] = (whole[20] as number) | 0b1000;
  return whole;
}

/** Returns EXIF data with one entry, in one of its two forms of text: UTF-16 with the high byte first, after 'UNICODE\0'. */
function exifOf(text: string): Buffer {
  const comment = Buffer.concat([Buffer.from('UNICODE\0', 'latin1'), Buffer.from(text, 'utf16le').swap16()]);
  const header = Buffer.from('MM\0*', 'latin1');
  const [pointerTag, commentTag, long, undefinedType] = [0x8769, 0x9286, 4, 7];
  // The header is 8 bytes, and each directory 18: a count, one entry, and the place of the next directory, which is none.
  const place = Buffer.alloc(4);
  place.writeUInt32BE(8);
  return Buffer.concat([
    header,
    place,
    directory(pointerTag, long, 1, 8 + 18),
    directory(commentTag, undefinedType, comment.length, 8 + 18 + 18),
    comment,
  ]);
}

function directory(tag: number, type: number, count: number, value: number): Buffer {
  const bytes = Buffer.alloc(18);
  bytes.writeUInt16BE(1, 0);
  bytes.writeUInt16BE(tag, 2);
  bytes.writeUInt16BE(type, 4);
  bytes.writeUInt32BE(count, 6);
  bytes.writeUInt32BE(value, 10);
  return bytes;
}
