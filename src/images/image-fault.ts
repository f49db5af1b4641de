/** @file Explains why a file cannot be read as an image, from its first bytes. */

/** How files of supported formats begin. WebP (RIFF) and AVIF (ISO base media) are detected below. */
const SUPPORTED = ['\xff\xd8\xff', '\x89PNG', 'GIF8', 'II*\0', 'II+\0', 'MM\0*', 'MM\0+'];

/** How files of other formats begin. */
const NOT_SUPPORTED: readonly (readonly [name: string, ...begins: string[]])[] = [
  ['a Photoshop file', '8BPS'],
  ['a JPEG XL image', '\xff\x0a', '\0\0\0\x0cJXL '],
  ['a JPEG 2000 image', '\xff\x4f\xff\x51', '\0\0\0\x0cjP  '],
  ['an icon (ICO)', '\0\0\x01\0'],
  ['a Netpbm image', ...Array.from('1234567', (kind) => `P${kind}\n`)],
  ['an OpenEXR image', 'v/1\x01'],
  ['a Radiance HDR image', '#?RADIANCE', '#?RGBE'],
  ['a QOI image', 'qoif'],
  ['a DDS texture', 'DDS '],
  ['a PDF', '%PDF'],
  ['a video', '\x1aE\xdf\xa3'],
  [
    'an archive or compressed',
    'PK\x03\x04',
    '\x1f\x8b',
    '7z\xbc\xaf',
    'Rar!',
    'BZh',
    '\xfd7zXZ',
    '\x28\xb5\x2f\xfd',
  ],
];

const CONVERT = 'convert it to JPEG or PNG';
const AGAIN = 'get or export it again';

/** The number of bytes that `faultOf` reads. */
export const FAULT_BYTES = 1024;

/**
 * Returns what a file is and what to do about it, as the second half of a sentence: 'it is empty (0 bytes): …'.
 * @param head the first `FAULT_BYTES` bytes of a file that the decoder refused, or all bytes of a shorter one
 */
export function faultOf(head: Uint8Array): string {
  if (head.length === 0) return `it is empty (0 bytes): ${AGAIN}`;
  if (head.every((byte) => byte === 0)) return `it contains only zeros: ${AGAIN}`;
  const begin = Buffer.from(head.buffer, head.byteOffset, head.length).toString('latin1');
  const text = begin.replace(/^\xef\xbb\xbf/, '').trimStart();
  if (text.startsWith('version https://git-lfs.github.com/'))
    return 'it is a Git LFS pointer instead of the file: run git lfs pull';
  if (/^\S*\/annex\/objects\//.test(text))
    return 'it is a git-annex pointer instead of the file: run git annex get';
  if (/^<(?:!doctype html|html|head|body)\b/i.test(text))
    return 'it is a web page (HTML) that a server sent instead of the file: download it again';
  if (text.startsWith('<') && text.includes('<svg')) return `it is an SVG drawing: ${CONVERT}`;
  if (text.startsWith('<?xml') || /^<(?:error|message)\b/i.test(text))
    return 'it is XML that a server sent instead of the file: download it again';
  if (begin.slice(4, 8) === 'ftyp') return mediaFault(begin);
  const kind = begin.slice(8, 12);
  const isSupported =
    SUPPORTED.some((mark) => begin.startsWith(mark)) || (begin.startsWith('RIFF') && kind === 'WEBP');
  if (isSupported) return `it is damaged or incomplete: ${AGAIN}`;
  const isBmp = begin.startsWith('BM') && begin.slice(6, 10) === '\0\0\0\0';
  const [name] = isBmp
    ? ['a BMP image']
    : (NOT_SUPPORTED.find(([, ...marks]) => marks.some((mark) => begin.startsWith(mark))) ?? []);
  if (name !== undefined) return `it is ${name}, which is not supported: ${CONVERT}`;
  return 'it is not a JPEG, PNG, WebP, GIF, TIFF or AVIF file';
}

/** Tells AVIF, HEIC and videos apart by the brands of ISO base media files (ISO/IEC 14496-12, "File Type Box"). */
function mediaFault(begin: string): string {
  const length = Math.min(begin.charCodeAt(2) * 256 + begin.charCodeAt(3), begin.length);
  const brands = begin.slice(8, Math.max(length, 12));
  if (/avi[fs]/.test(brands)) return `it is damaged or incomplete: ${AGAIN}`;
  if (/hei[cxms]|hev[cxms]|mif1|msf1/.test(brands))
    return `it is a HEIC image, which is not supported: ${CONVERT}`;
  if (brands.startsWith('crx ')) return `it is a camera's raw image, which is not supported: ${CONVERT}`;
  return 'it is a video: extract its frames as images';
}
